-- An erased document keeps its place in the versions that held it as the row `erased:<hash of its URI>` with its leaf,
-- and revision 0: there is no such revision, so nothing can be found through it.
COMMENT ON COLUMN membership.revision_id IS '0: the document was erased';
