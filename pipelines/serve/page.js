"use strict";
(() => {
const at = id => document.getElementById(id);
const KEY = "snapdex-token";
// Characters that would turn the order of what is shown around are made visible; all text goes through here and textContent.
const plain = text => String(text).replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
const make = (name, className, ...children) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  for (const child of children) element.append(typeof child === "string" ? document.createTextNode(plain(child)) : child);
  return element;
};
const isolated = text => { const element = make("bdi", "", text); element.dir = "auto"; return element; };
const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

// -- what is asked of the service

class Refused extends Error {
  constructor(status, error, hint) { super(error); this.status = status; this.hint = hint; }
}

const GONE = "The service does not answer.", RUNS = "Is it still running?";

async function send(path, body, signal) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const request = body === undefined ? { headers, signal } : { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
  let answer;
  try { answer = await fetch(path, request); } catch { throw new Refused(0, GONE, RUNS); }
  if (answer.ok) return answer;
  let content = null;
  try { content = await answer.json(); } catch { /* an answer of somebody in between */ }
  throw new Refused(answer.status, content?.error ?? `The service answered ${answer.status}.`, content?.hint ?? "");
}

const get = async (path, body, signal) => (await send(path, body, signal)).json();

async function answered(body, signal, piece) {
  // Pieces as a model writes them, which nobody has checked; then the answer that was made of them.
  const reader = (await send("ask", { ...body, stream: true }, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "";;) {
    let read;
    try { read = await reader.read(); } catch { throw new Refused(0, GONE, RUNS); }
    if (read.done) throw new Refused(0, "The answer ended in the middle.", "Ask again.");
    const events = (rest + read.value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [name, data] = event.split("\n"), content = JSON.parse(data.slice("data: ".length));
      if (name === "event: answer") return content;
      if (name === "event: error") throw new Refused(503, content.error, content.hint);
      piece(content.text);
    }
  }
}

// -- words of the query in a passage

const COMMON = new Set("the and for are was has have had not but what when where which who how does did can this that with from into about than then they you your our its will would should could there their".split(" "));
const stem = word => word.length > 4 ? word.replace(/(ings?|edly|ed|ies|es|s|ly|y|e)$/, "") : word;
const WORD = /[\p{L}\p{N}]+/gu;

function wordsOf(query) {
  // Short ones tell something where they are numbers, capitals (as in TM-5013), or of another script.
  const words = (query.match(WORD) ?? []).filter(word => !COMMON.has(word.toLowerCase()) && (word.length > 2 || /\p{N}|^\p{Lu}+$|[^\x00-\x7f]/u.test(word)));
  return new Set(words.map(word => stem(word.toLowerCase())));
}

// What is marked in a text, as [start, end]: words, or quotations, whose white space may have been folded.
const wordsIn = words => text => [...text.matchAll(WORD)].filter(match => words.has(stem(match[0].toLowerCase()))).map(match => [match.index, match.index + match[0].length]);

const quotesIn = quotes => text => quotes.flatMap(quote => {
  const form = [quote, quote.replace(/\s+/g, " ").trim()].find(each => text.includes(each));
  return form ? [[text.indexOf(form), text.indexOf(form) + form.length]] : [];
}).sort((one, other) => one[0] - other[0]);

const LONG = matchMedia("(max-width: 36rem)").matches ? 260 : 420;

function excerpt(text, found) {
  // The stretch of so many characters that has most of what is marked, moved to whole words.
  const most = Math.max(LONG, ...found.map(([start, end]) => end - start + 160));
  if (text.length <= most * 1.2) return [0, text.length];
  let best = 0, top = -1;
  for (const [start] of found.length ? found : [[0, 0]]) {
    const count = found.filter(place => place[0] >= start && place[1] <= start + most - 80).length;
    if (count > top) [best, top] = [start, count];
  }
  let low = best < 120 ? 0 : Math.min(best - 80, text.length - most), high = Math.min(text.length, low + most);
  if (low > 0) low = text.indexOf(" ", low) + 1 || low;
  if (high < text.length) high = Math.max(text.lastIndexOf(" ", high), low + 1);
  return [low, high];
}

function marked(text, found, low, high) {
  const pieces = [];
  let past = low;
  for (const [start, end] of found) {
    if (start < past || start >= high) continue;
    pieces.push(text.slice(past, start), make("mark", "", text.slice(start, Math.min(end, high))));
    past = Math.min(end, high);
  }
  pieces.push(text.slice(past, high));
  if (low > 0) pieces.unshift("… ");
  if (high < text.length) pieces.push(" …");
  return pieces.map(piece => typeof piece === "string" ? document.createTextNode(plain(piece)) : piece);
}

// -- what is shown

function passage(said, find) {
  const text = said.trim(), flat = text.replace(/\s+/g, " "), [low, high] = excerpt(flat, find(flat));
  const shown = make("p", "text", ...marked(flat, find(flat), low, high));
  shown.dir = "auto";
  if (text === flat && low === 0 && high === flat.length) return [shown];
  const more = make("button", "link", "Whole passage");
  more.type = "button";
  more.setAttribute("aria-expanded", "false");
  more.addEventListener("click", () => {
    const whole = more.getAttribute("aria-expanded") !== "true";
    more.setAttribute("aria-expanded", String(whole));
    more.textContent = whole ? "Excerpt" : "Whole passage";
    shown.classList.toggle("whole", whole);
    shown.replaceChildren(...(whole ? marked(text, find(text), 0, text.length) : marked(flat, find(flat), low, high)));
  });
  return [shown, more];
}

function shownScore(score, best) {
  const bar = make("span", "bar", make("i", "")), number = make("span", "", score.toFixed(3));
  bar.setAttribute("aria-hidden", "true");
  bar.firstChild.style.width = `${Math.round(100 * Math.max(0, best > 0 ? score / best : 0))}%`;
  number.title = "score";
  return make("span", "score", bar, make("span", "sr", "score "), number);
}

// A place in a document: the name of the document, and under it section and page.
function shownPlace(found, ...beside) {
  const body = make("div", "", make("div", "head", make("h3", "", isolated(found.document)), ...beside));
  const parts = [...found.section.map(isolated), ...(found.page ? [make("span", "", `page ${found.page}`)] : [])];
  const place = make("p", "place");
  parts.forEach((part, index) => place.append(...(index ? [index < found.section.length ? " › " : " · "] : []), part));
  if (parts.length) body.append(place);
  return body;
}

function shownOthers(uris) {
  const also = make("p", "place", "also in ");
  uris.forEach((uri, index) => also.append(...(index ? [", "] : []), isolated(uri)));
  return also;
}

function shownHit(hit, best, find, tags) {
  const body = shownPlace(hit, shownScore(hit.score, best));
  if (tags.length) body.append(make("div", "tags", ...tags.map(([kind, text]) => make("span", `tag ${kind}`, text))));
  body.append(...passage(hit.text, find));
  const others = [...hit.also_in, ...hit.similar];
  if (others.length) body.append(shownOthers(others));
  return make("li", "hit", make("span", "rank", make("span", "sr", "rank "), String(hit.rank)), body);
}

// Which hit of the other version is the same place: the same text, else the same section of the same document.
function partners(hits, others) {
  const left = new Set(others), found = new Map();
  const same = [(a, b) => a.chunk === b.chunk && a.document === b.document, (a, b) => a.document === b.document && a.section.join("\n") === b.section.join("\n")];
  for (const is of same) for (const hit of hits) {
    if (found.has(hit)) continue;
    const other = [...left].find(each => is(hit, each));
    if (other) { found.set(hit, other); left.delete(other); }
  }
  return found;
}

function changes(hit, other, name, count, isLater) {
  if (!other) return [[isLater ? "new" : "down", `not among the ${count} of ${name}`]];
  const tags = [];
  const by = other.rank - hit.rank;
  if (isLater && by) tags.push([by > 0 ? "up" : "down", `${by > 0 ? "↑" : "↓"} ${Math.abs(by)}, was ${other.rank}`]);
  if (isLater && !by) tags.push(["", "same rank"]);
  if (hit.chunk !== other.chunk) tags.push(["new", "other text"]);
  return tags;
}

const headed = version => make("div", "column", make("h2", "", `v${version}`, version === active ? " (active)" : ""));

function column(result, find, tagsOf) {
  const list = make("ol", "hits");
  const best = Math.max(...result.hits.map(hit => hit.score), 0);
  for (const hit of result.hits) list.append(shownHit(hit, best, find, tagsOf(hit)));
  const shown = headed(result.version);
  if (result.abstained) {
    shown.classList.add("far");
    const notice = make("div", "notice", make("b", "", `There is nothing relevant in v${result.version}.`));
    notice.append(result.hits.length ? "The nearest passages follow; they probably do not answer." : "No passage comes near.");
    shown.append(notice);
  }
  shown.append(list);
  return shown;
}

function shownDiff(found) {
  const kinds = [["added", "+"], ["removed", "−"], ["modified", "~"], ["renamed", ">"]];
  const counts = kinds.filter(([kind]) => found.documents[kind].length).map(([kind]) => `${found.documents[kind].length.toLocaleString("en")} ${kind}`);
  const title = `Documents from v${found.from} to v${found.to}: ${counts.join(", ") || "no difference"}`;
  if (!counts.length) return make("p", "diff", title);
  const list = make("ul", "");
  for (const [kind, sign] of kinds) for (const each of found.documents[kind].slice(0, 200)) {
    const mark = make("b", "", sign);
    mark.setAttribute("aria-label", kind);
    list.append(make("li", "", mark, ...(Array.isArray(each) ? [isolated(each[0]), " → ", isolated(each[1])] : [isolated(each)])));
  }
  return make("details", "diff", make("summary", "", `${title}; chunks +${found.chunks.added} −${found.chunks.removed}`), list);
}

// -- an answer, with the passages that it cites

function shownReply(answer, cards) {
  const shown = make("p", "reply");
  shown.dir = "auto";
  for (const part of answer.answer.split(/(\[(?:\d+|\?)\])/)) {
    const marker = part.slice(1, -1);
    if (part === "[?]") {
      const unsure = make("span", "unsure", part);
      unsure.title = "no passage supports this";
      shown.append(unsure);
    } else if (part.startsWith("[") && cards.has(marker)) {
      const link = make("button", "marker", part);
      link.type = "button";
      link.setAttribute("aria-label", `source ${marker}`);
      link.addEventListener("click", () => cards.get(marker).focus());
      shown.append(link);
    } else shown.append(document.createTextNode(plain(part)));
  }
  return shown;
}

function shownSource(marker, cited) {
  const body = shownPlace(cited[0]);
  body.append(...passage(cited[0].text, quotesIn(cited.map(each => each.quote))));
  if (cited[0].also_in.length) body.append(shownOthers(cited[0].also_in));
  const shown = make("li", "hit", make("span", "rank", make("span", "sr", "source "), marker), body);
  shown.tabIndex = -1;
  return shown;
}

function shownAnswer(answer) {
  const shown = headed(answer.version);
  if (answer.abstained) {
    shown.append(make("div", "notice", make("b", "", answer.answer), `${answer.reason.charAt(0).toUpperCase()}${answer.reason.slice(1)}.`));
    const best = Math.max(...answer.nearest.map(each => each.score), 0);
    const near = make("ol", "hits", ...answer.nearest.map((each, index) => make("li", "hit", make("span", "rank", String(index + 1)), shownPlace(each, shownScore(each.score, best)))));
    if (answer.nearest.length) shown.append(make("h3", "", "The nearest documents"), near);
    return shown;
  }
  const cards = new Map();
  for (const { marker } of answer.citations) if (!cards.has(marker)) cards.set(marker, shownSource(marker, answer.citations.filter(each => each.marker === marker)));
  const block = make("div", "answer", shownReply(answer, cards));
  const notes = answer.conflicts.map(each => `Sources [${each.markers[0]}] and [${each.markers[1]}] say different things.`);
  if (answer.sentences.some(each => !each.supported)) notes.push("[?] marks what no passage supports.");
  if (!answer.calibrated) notes.push("This version has not learned to tell when the documents have no answer.");
  block.append(...notes.map(each => make("p", "note", each)));
  shown.append(block, make("ol", "hits", ...cards.values()));
  return shown;
}

async function showAnswers(query, mine) {
  const names = chosen().filter((name, index, all) => !index || (name || `v${active}`) !== (all[0] || `v${active}`));
  clear();
  document.body.classList.toggle("two", names.length === 2);
  const drafts = names.map(() => make("p", "reply draft"));
  const columns = drafts.map(draft => make("div", "column", make("h2", "", "being written"), make("div", "answer", draft)));
  at("columns").append(...columns);
  const answers = await Promise.all(names.map(async (name, index) => {
    const answer = await answered(asked("question", query, name), mine.signal, piece => drafts[index].append(plain(piece)));
    if (mine === current) columns[index].replaceWith(shownAnswer(answer));
    return answer;
  }));
  const [first, second] = answers;
  const found = second ? await get(`diff?from=v${first.version}&to=v${second.version}`) : null;
  if (mine !== current) return;
  if (found) at("diff").append(shownDiff(found));
  const tokens = answers.reduce((sum, each) => sum + each.tokens, 0);
  tell(answers, each => `${each.abstained ? "no answer in" : "answered from"} v${each.version}`, first.model + (tokens ? ` · ${many(tokens, "token")}` : ""));
}

// -- a search

async function showHits(query, mine) {
  const results = await Promise.all(chosen().map(name => get("search", asked("query", query, name), mine.signal)));
  const two = results.length === 2 && results[0].version !== results[1].version;
  const found = two ? await get(`diff?from=v${results[0].version}&to=v${results[1].version}`) : null;
  if (mine !== current) return;
  clear();
  document.body.classList.toggle("two", two);
  const find = wordsIn(wordsOf(query));
  if (two) {
    const [first, second] = results, there = partners(second.hits, first.hits);
    const back = new Map([...there].map(([hit, other]) => [other, hit]));
    at("diff").append(shownDiff(found));
    at("columns").append(
      column(first, find, hit => changes(hit, back.get(hit), `v${second.version}`, second.hits.length, false)),
      column(second, find, hit => changes(hit, there.get(hit), `v${first.version}`, first.hits.length, true)));
  } else at("columns").append(column(results[0], find, () => []));
  tell(results.slice(0, two ? 2 : 1), each => `${each.abstained ? "nothing relevant" : many(each.hits.length, "passage")} in v${each.version}`, results[0].mode);
}

// -- both

let active = null, way = "search", current = new AbortController(), began = 0;

const chosen = () => [at("at").value, at("with").value].filter((name, index) => index === 0 || name);
const asked = (key, query, name) => ({ [key]: query, k: Number(at("k").value), ...(name && { at: name }), ...(at("mode").value && { mode: at("mode").value }) });

function tell(found, says, how) {
  at("said").textContent = `${found.map(says).join(", ")} · ${how} · ${Math.round(performance.now() - began)} ms`;
  at("snapshot").textContent = found.map(each => `v${each.version} is snapshot ${each.snapshot.slice(0, 12)}.`).join(" ");
}

async function run() {
  current.abort();  // the model need not go on with what nobody waits for
  const mine = current = new AbortController(), query = at("query").value.trim();
  began = performance.now();
  remember();
  at("problem").hidden = true;
  at("results").removeAttribute("aria-busy");
  if (!query) { clear(); at("start").hidden = false; at("said").textContent = ""; return; }
  at("said").textContent = way === "ask" ? "Looking for an answer …" : "Searching …";
  at("results").setAttribute("aria-busy", "true");
  try { await (way === "ask" ? showAnswers : showHits)(query, mine); } catch (error) { if (mine === current) failed(error); }
  finally { if (mine === current) at("results").removeAttribute("aria-busy"); }
}

function clear() {
  document.body.classList.remove("two");
  at("start").hidden = true;
  for (const id of ["diff", "columns"]) at(id).replaceChildren();
}

function failed(error) {
  if (!(error instanceof Refused)) throw error;
  current.abort();
  clear();
  at("said").textContent = "";
  if (error.status === 401) { sessionStorage.removeItem(KEY); askToken(); return; }
  const shown = at("problem");
  shown.replaceChildren(make("b", "", error.message), make("span", "", error.status === 404 ? "It may be gone: choose another version." : error.hint));
  shown.hidden = false;
}

function askToken() {
  at("why").textContent = at("token").value ? "This is not a token of the service" : "This service asks for a token";
  at("token").value = "";
  at("ask").hidden = at("forget").hidden = at("start").hidden = true;
  at("enter").hidden = false;
  at("token").focus();
}

// -- what stands in the address: behind #, which browsers send to nobody

const FIELDS = { q: "query", at: "at", with: "with", mode: "mode", k: "k" };

function remember() {
  const said = new URLSearchParams();
  for (const [name, id] of Object.entries(FIELDS)) if (at(id).value && !(name === "k" && at(id).value === "10")) said.set(name, at(id).value);
  if (way === "ask") said.set("do", way);
  history.replaceState(null, "", `${location.pathname}#${said}`);
}

function recall() {
  const said = new URLSearchParams(location.hash.slice(1) || location.search);
  way = said.get("do") === "ask" ? "ask" : "search";
  for (const [name, id] of Object.entries(FIELDS)) {
    const value = said.get(name) ?? (name === "k" ? "10" : ""), isKnown = at(id).tagName === "INPUT" || [...at(id).options].some(option => option.value === value);
    // A tag or the beginning of a snapshot id is a version, too; what is none, and what is gone, the service says.
    if (!isKnown && (name === "at" || name === "with")) at(id).append(new Option(plain(value), value));
    if (isKnown || name === "at" || name === "with") at(id).value = value;
  }
}

// -- the beginning

async function open() {
  try {
    const versions = await get("versions");
    const shown = versions.find(each => each.active);
    active = shown?.version ?? null;
    at("version").textContent = shown ? `v${active} · ${many(shown.documents, "document")} · ${shown.created_at.slice(0, 10)}` : "no version is active";
    const labelled = each => new Option(plain([`v${each.version}`, each.created_at.slice(0, 10), ...each.tags].join(" · ")), `v${each.version}`);
    at("at").replaceChildren(new Option(shown ? `active (v${active})` : "active", ""), ...versions.map(labelled));
    at("with").replaceChildren(new Option("nothing", ""), ...versions.map(labelled));
    at("enter").hidden = true;
    at("ask").hidden = false;
    at("forget").hidden = !sessionStorage.getItem(KEY);
    at("token").value = "";
    recall();
    if (!at("query").value) at("query").focus();
    await run();
  } catch (error) { failed(error); }
}

at("enter").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("token").value.trim());
  open();
});
at("forget").addEventListener("click", () => { current.abort(); sessionStorage.removeItem(KEY); clear(); at("said").textContent = ""; askToken(); });
at("ask").addEventListener("submit", event => { event.preventDefault(); way = event.submitter?.value ?? way; run(); });
for (const id of ["at", "with", "mode", "k"]) at(id).addEventListener("change", () => {
  if (way === "search" && at("query").value.trim()) { run(); return; }
  remember();
  if (at("columns").hasChildNodes()) at("said").textContent = "Ask again for an answer with these choices.";
});
addEventListener("hashchange", () => { if (!at("ask").hidden) { recall(); run(); } });
addEventListener("keydown", event => {
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !at("ask").hidden) { event.preventDefault(); at("query").focus(); at("query").select(); }
});
if (document.body.dataset.token === "yes" && !sessionStorage.getItem(KEY)) askToken(); else open();
})();
