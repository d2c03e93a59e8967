"""What the machine does, under the names that MLflow's pages know."""

import os

MEGABYTE = 1e6  # as MLflow counts


def system_metrics() -> dict[str, float]:
    """Processor, memory, disk and network of this machine now. The processor's share is since the last call.

    Disk is that of the root directory, and network is since the machine started.
    """
    import psutil  # type: ignore[import-untyped]

    memory, disk, network = psutil.virtual_memory(), psutil.disk_usage(os.sep), psutil.net_io_counters()
    received, sent = (network.bytes_recv, network.bytes_sent) if network else (0, 0)  # a sandbox has no interface
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": memory.used / memory.total * 100,
        "disk_usage_percentage": disk.percent,
        "disk_usage_megabytes": disk.used / MEGABYTE,
        "disk_available_megabytes": disk.free / MEGABYTE,
        "network_receive_megabytes": received / MEGABYTE,
        "network_transmit_megabytes": sent / MEGABYTE,
    }
    return {f"system/{name}": round(float(value), 1) for name, value in values.items()}
