
// actions: what one may do with the fleet, shown to those alone who may. The token stays in this page's memory, and is sent by it only.
const may = {token: "", write: false, writable: false, by: "", actions: [], busy: false};
const LASTS = "It lasts until it is undone, or until a fleet file that does not say so is applied.";
const EFFECTS = {
  pause: {verb: "Pause", done: "paused", cluster: n => `No reconcile of an object of cluster ${n} is begun any more: what runs ends, what is due waits and counts as late. Jobs of the hub still place and end Pods there. ${LASTS}`,
    controller: n => `Controller ${n} begins no reconcile any more, in no cluster: what runs ends, what is due waits and counts as late. ${LASTS}`},
  resume: {verb: "Resume", done: "resumed", cluster: n => `Objects of cluster ${n} are reconciled again, first what has become due meanwhile.`, controller: n => `Controller ${n} reconciles again, first what has become due meanwhile.`},
  drain: {verb: "Drain", done: "the Pods of jobs leave it now", cluster: n => `The Pods of jobs leave cluster ${n}, of each job some at a time, where another cluster takes them; no new ones are placed there. ${LASTS}`},
  undrain: {verb: "Undo the drain", done: "no longer drained", cluster: n => `Pods of jobs are placed in cluster ${n} again.`},
  reconcile: {verb: "Reconcile now", done: "queued", object: n => `${n} is queued for its controllers, as urgent as a user's change of it. A backoff ends.`},
  handover: {verb: "Hand over", done: "handed over", shard: n => `${n ? `Shard ${n} goes to its warm standby` : "Each shard goes to its warm standby"}: nothing is handed out for a moment, and reconciles that do not end within it are interrupted and begin again.`},
};
const WHAT = {cluster: ["pause", "resume", "drain", "undrain"], controller: ["pause", "resume"], object: ["reconcile"], shard: ["handover"]};
const called = (kind, name) => name ? `${kind} ${name}` : `all ${kind}s`;
const chosen = kind => $(`act-${kind}`).value.trim();
function fieldsOf(action, kind, name) {
  if (kind !== "object") return {[`${kind}s`]: name ? [name] : []};
  const parts = name.split("/");
  return {cluster: parts[0], kind: parts.slice(1, -2).join("/"), namespace: parts.at(-2), name: parts.at(-1)};
}
function sign(headers) { return {headers: may.token ? {...headers, Authorization: `Bearer ${may.token}`} : headers, credentials: may.token ? "omit" : "same-origin"}; }
async function learn() {
  const answer = await fetch("/api/v1/actions", {...sign({}), signal: AbortSignal.timeout(STALE)}), found = await answer.json();
  if (!answer.ok) throw new Error(found.error || answer.statusText);
  Object.assign(may, found);
  showActions();
}
function told_outcome(action, kind, name, answer) {
  if (answer.shards) return answer.shards.map(s => `shard ${s.shard}: ${s.problem || `handed over in ${secs(s.took)}`}`).join("; ");
  if (answer.keys) return answer.keys.map(k => `${name}, controller ${k.controller}: ${k.state}${k.waitsFor ? `, waits for ${k.waitsFor}` : ""}`).join("; ");
  return `${called(kind, name)}: ${answer.changed ? EFFECTS[action].done : "it was so before, nothing has changed"}`;
}
function outcome(words, cls) { $("acted").className = cls || ""; $("acted").textContent = plain(words); }
async function act(action, kind, name) {
  if (may.busy || !await agreed(action, kind, name)) return;
  may.busy = true; showActions(); outcome("…");
  try {
    const sent = sign({"Content-Type": "application/json", "X-Raycp-Action": action});
    const answer = await fetch(`/api/v1/actions/${action}`, {method: "POST", body: JSON.stringify(fieldsOf(action, kind, name)), ...sent, signal: AbortSignal.timeout(75000)}), found = await answer.json();
    if (!answer.ok) throw new Error(found.error || answer.statusText);
    outcome(told_outcome(action, kind, name, found), "good");
  } catch (e) { outcome(`${EFFECTS[action].verb}, ${called(kind, name)}: ${e.message}`, "bad"); }
  may.busy = false; showActions();
  learn().catch(() => showActions());
}
function agreed(action, kind, name) {
  const d = $("confirm"), effect = EFFECTS[action][kind](name);
  d.querySelector("h3").textContent = plain(`${EFFECTS[action].verb}: ${called(kind, name)}?`);
  d.querySelector("p").textContent = plain(effect);
  d.querySelector("button.main").textContent = EFFECTS[action].verb;
  d.showModal();
  d.querySelector("button.main").focus();
  return new Promise(done => { answered = done; });
}
let answered = () => {};
function settle(yes) { $("confirm").close(); answered(yes); }
function options(id, values, first) {
  const select = $(id), wanted = [...first, ...values.map(v => [v, v])];
  if (select === document.activeElement || select.options.length === wanted.length && wanted.every(([v], i) => select.options[i].value === v)) return;
  const kept = select.value;
  select.replaceChildren(...wanted.map(([value, shown]) => { const o = text("option", shown); o.value = value; return o; }));
  select.value = wanted.some(([v]) => v === kept) ? kept : wanted[0]?.[0] ?? "";
}
function showActions() {
  const d = last.data || {};
  $("actions").hidden = !may.write && !may.writable;
  $("unlock").hidden = may.write; $("acts").hidden = !may.write; $("now").hidden = !may.write;
  for (const b of document.querySelectorAll("#acts button,#now")) b.disabled = may.busy;
  $("actions").querySelector(".digest").textContent = plain(may.write ? `as ${may.by}` : "need a token that may write");
  options("act-cluster", (d.clusters || []).map(c => c.name), []);
  options("act-controller", (d.controllers || []).map(c => c.name), []);
  options("act-shard", (d.shards || []).map(s => s.name), [["", "all shards"]]);
  table($("acts-done"), "acts-done", [["at (UTC)", r => stamp(r.at), "t"], ["action", r => r.action], ["about", r => r.about, "why"], ["by", r => `${r.by} from ${r.origin}`], ["outcome", r => text("span", r.outcome, r.status < 400 ? "good" : "bad"), "why"], ["took", r => secs(r.seconds), "n"]],
    may.actions || [], "Nothing was done since this observer began.", r => `${r.at} ${r.action}`);
}
function control(kind, label, input) {
  const row = box("div", "act"), l = text("label", label);
  input.id = `act-${kind}`; l.htmlFor = input.id;
  row.append(l, input, ...WHAT[kind].map(action => { const b = text("button", EFFECTS[action].verb); b.type = "button"; b.dataset.act = action; b.addEventListener("click", () => { if (chosen(kind) || kind === "shard") act(action, kind, chosen(kind)); else input.focus(); }); return b; }));
  return row;
}
function buildActions() {
  const s = box("section", "wide"), d = document.createElement("details"), sum = document.createElement("summary"), token = document.createElement("input"), object = document.createElement("input");
  s.id = "actions"; s.hidden = true;
  sum.append(text("h2", "Actions"), text("span", "", "digest"));
  Object.assign(token, {type: "password", autocomplete: "off", id: "token", placeholder: "Token that may write"}); token.setAttribute("aria-label", "token that may write");
  Object.assign(object, {type: "text", autocomplete: "off", spellcheck: false, placeholder: "CLUSTER/KIND/NAMESPACE/NAME"}); object.setAttribute("list", "objects");
  const unlock = box("form", "", token, text("button", "Unlock", "main")); unlock.id = "unlock";
  unlock.addEventListener("submit", async event => {
    event.preventDefault();
    may.token = token.value.trim(); token.value = "";
    try { await learn(); outcome(may.write ? "" : "this token may read, and not act", may.write ? "" : "bad"); } catch (e) { outcome(`not unlocked: ${e.message}`, "bad"); }
    if (!may.write) may.token = "";
  });
  const acts = box("div", "", control("cluster", "Cluster", document.createElement("select")), control("controller", "Controller", document.createElement("select")), control("object", "Object", object), control("shard", "Shard", document.createElement("select")));
  acts.id = "acts";
  const acted = text("p", ""); acted.id = "acted"; acted.setAttribute("role", "status");
  const done = box("div", ""); done.id = "acts-done";
  d.append(sum, box("div", "body", unlock, acts, acted, done)); s.append(d);
  document.querySelector("main").append(s);
  const dialog = document.createElement("dialog"), yes = text("button", "", "main"), no = text("button", "Cancel");
  dialog.id = "confirm"; dialog.setAttribute("aria-labelledby", "confirm-what"); dialog.setAttribute("aria-describedby", "confirm-effect");
  const head = text("h3", ""), effect = text("p", ""); head.id = "confirm-what"; effect.id = "confirm-effect";
  yes.addEventListener("click", () => settle(true)); no.addEventListener("click", () => settle(false));
  dialog.addEventListener("cancel", () => answered(false));  // Escape
  dialog.append(head, effect, box("div", "act", yes, no));
  document.body.append(dialog);
  const now = text("button", "Reconcile now"); now.id = "now"; now.type = "button"; now.hidden = true;
  now.addEventListener("click", () => { const name = $("object").value.trim(); if (name) { d.open = true; act("reconcile", "object", name); } });
  $("ask").append(now);
  const again = () => learn().catch(() => showActions()).finally(() => setTimeout(again, document.hidden ? 60000 : 10000));
  d.addEventListener("toggle", showActions);
  setInterval(() => { if (d.open) showActions(); }, 1000);
  again();
}
