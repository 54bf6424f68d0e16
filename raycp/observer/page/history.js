// The last hour and what changed: fetched once, then only what is new. A part of status.html's script (raycp.observer.web), whose
// functions it uses; it gives it `hour`.
const hour = (() => {
const SLOTS = 360, OFTEN = 5000, MARKED = ["switch", "hand-over", "apply", "alert"], LEVEL = {good: "good", bad: "bad", warn: "warn"};
const SHAPE = {
  rate: ["reconciles per s", num, "bar"], errors: ["errors per s", num, "bad"], p99: ["p99", secs, "bar"],
  depth: ["ready keys", num, "high"], retrying: ["objects failing", num, "bad"],
};
const PANELS = [["rate", "errors"], ["p99"], ["depth"], ["retrying"]], OF_CLUSTER = [["p99"], ["errors"]];
const known = {instance: "", last: -1, seq: -1, at: 0, step: 10, fleet: {}, controllers: {}, clusters: {}, changes: new Map(), problem: ""};
const sparks = new Map();  // as of the newest point
let drawn = "", listed = "";

// what the observer remembers

async function recall() {
  try {
    const {instance, last: after, seq} = known, answer = await fetch("/api/v1/history?" + new URLSearchParams({instance, after, seq}), {signal: AbortSignal.timeout(2 * STALE)});
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error || answer.statusText);
    known.problem = "";
    learn(found);
  } catch (e) { known.problem = `the history can't be read: ${e.message}`; }
  if (last.data) show(last.data);
  setTimeout(recall, document.hidden ? 6 * OFTEN : OFTEN);
}
function learn(found) {
  const anew = found.instance !== known.instance, append = (old, points) => {
    const all = {};
    for (const metric in points) all[metric] = [...(anew ? null : old?.[metric]) || Array(SLOTS).fill(null), ...points[metric]].slice(-SLOTS);
    return all;
  };
  const cursor = part("at"), passed = found.last - known.last;
  if (!anew && +cursor.value < SLOTS - 1) cursor.value = Math.max(0, cursor.value - passed);  // it stays at its moment
  const each = of => Object.fromEntries(Object.entries(found[of]).map(([name, points]) => [name, append(known[of][name], points)]));
  Object.assign(known, {fleet: append(known.fleet, found.fleet), controllers: each("controllers"), clusters: each("clusters")});
  Object.assign(known, {instance: found.instance, last: found.last, seq: found.seq, at: found.at, step: found.stepSeconds});
  if (anew) known.changes.clear();
  sparks.clear();
  for (const change of found.changes) known.changes.set(change.id, change);
  const newest = [...known.changes.values()].sort((a, b) => a.seq - b.seq);
  for (const old of newest.slice(0, -200)) known.changes.delete(old.id);
}
const when = slot => known.at - (SLOTS - 1 - slot) * known.step;
const clock = at => new Date(at * 1000).toISOString().slice(11, 19);
const slotOf = at => Math.round(SLOTS - 1 - (known.at - at) / known.step);
const marks = () => [...known.changes.values()].filter(c => (MARKED.includes(c.kind) || (c.kind === "process" && ["bad", "warn"].includes(c.level))) && slotOf(c.at) >= 0 && slotOf(c.at) < SLOTS);
const named = c => `${c.subject} ${c.what}`;
const values = line => line.filter(v => v != null);
const measured = () => known.fleet.rate || [];

// lines: gaps stay gaps

function segments(line, x, y) {
  const parts = [];
  let part = null;
  line.forEach((value, slot) => {
    if (value == null) { part = null; return; }
    if (!part) parts.push(part = []);
    part.push([x(slot), y(value)]);
  });
  return parts.map(points => (points.length > 1 ? points : [points[0], [points[0][0] + .8, points[0][1]]]).map(p => p.map(v => v.toFixed(1)).join(",")).join(" "));
}
function lines(svg, line, x, y, fill) {
  for (const points of segments(line, x, y)) draw(svg, "polyline", {points, fill: "none", stroke: colour(fill), "stroke-width": 1.5, "stroke-linejoin": "round", "vector-effect": "non-scaling-stroke"});
}
function inWords(metric, line) {
  const [title, shown] = SHAPE[metric], all = values(line), most = Math.max(...all), missing = line.length - all.length;
  if (!all.length) return `${title} over the last hour: no data`;
  return `${title} over the last hour: last ${shown(all.at(-1))}, most ${shown(most)} at ${clock(when(line.indexOf(most)))}` + (missing ? `, no data for ${span(missing * known.step)}` : "");
}
function spark(of, name, ...metrics) {
  const id = JSON.stringify([of, name, metrics]);
  if (sparks.has(id)) return sparks.get(id);
  const series = known[of][name] || {}, svg = draw(null, "svg", {class: "spark", viewBox: "0 0 80 18", role: "img"}), EACH = 6;
  svg.setAttribute("aria-label", metrics.map(metric => inWords(metric, series[metric] || [])).join("; "));
  for (const metric of metrics) {
    const line = series[metric] || [], all = values(line), most = Math.max(...all, 1e-9), few = [];
    if (metric === "errors" && !(most > 1e-6)) continue;
    for (let slot = 0; slot < line.length; slot += EACH) { const some = values(line.slice(slot, slot + EACH)); few.push(some.length ? Math.max(...some) : null); }
    lines(svg, few, slot => slot * 80 / (SLOTS / EACH - 1), value => 16.5 - 15 * value / most, SHAPE[metric][2]);
  }
  sparks.set(id, svg);
  return svg;
}

// the charts, of the fleet or of one controller or cluster

const part = name => $("hour").querySelector("." + name);
function chosen() {
  const [of, name] = part("whose").value ? JSON.parse(part("whose").value) : ["fleet", ""];
  return [of, of === "fleet" ? known.fleet : known[of][name] || {}];
}
function choices() {
  const names = [["fleet", "", "the whole fleet"], ...["controllers", "clusters"].flatMap(of => Object.keys(known[of]).sort().map(name => [of, name, `${of.slice(0, -1)} ${name}`]))];
  const all = JSON.stringify(names), whose = part("whose"), before = whose.value;
  if (all === listed) return;
  listed = all;
  whose.replaceChildren(...names.map(([of, name, shown]) => { const e = text("option", shown); e.value = JSON.stringify([of, name]); return e; }));
  whose.value = [...whose.options].some(o => o.value === before) ? before : whose.options[0].value;
}
function panel(metrics, series) {
  const all = metrics.flatMap(metric => values(series[metric] || [])), most = Math.max(...all, 1e-9), x = slot => slot * 600 / (SLOTS - 1), y = value => 66 - 60 * value / most;
  const svg = draw(null, "svg", {class: "curve", viewBox: "0 0 600 70", preserveAspectRatio: "none", role: "img"});
  svg.setAttribute("aria-label", metrics.map(metric => inWords(metric, series[metric] || [])).join("; "));
  let from = null;
  [...measured(), 0].forEach((value, slot) => {
    if (value == null) from ??= slot;
    else if (from != null) { const gap = draw(svg, "rect", {x: x(from), width: Math.max(1, x(slot) - x(from)), y: 0, height: 70, fill: colour("notebg")}); draw(gap, "title", {}).textContent = "nobody measured"; from = null; }
  });
  draw(svg, "line", {x1: 0, x2: 600, y1: 66, y2: 66, stroke: colour("line"), "vector-effect": "non-scaling-stroke"});
  for (const c of marks()) {
    const line = draw(svg, "line", {class: "mark", x1: x(slotOf(c.at)), x2: x(slotOf(c.at)), y1: 0, y2: 70, stroke: colour(LEVEL[c.level] || "note"), "stroke-width": 1.5, "stroke-dasharray": "3 3", "vector-effect": "non-scaling-stroke"});
    draw(line, "title", {}).textContent = plain(`${clock(c.at)} ${named(c)}`);
  }
  for (const metric of metrics) lines(svg, series[metric] || [], x, y, SHAPE[metric][2]);
  draw(svg, "line", {class: "cursor", y1: 0, y2: 70, stroke: colour("ink"), "vector-effect": "non-scaling-stroke"});
  const latest = metrics.map(metric => { const dot = text("i", "", "dot"); dot.style.background = colour(SHAPE[metric][2]); return box("span", "latest", dot, `${SHAPE[metric][0]} `, text("b", SHAPE[metric][1](values(series[metric] || []).at(-1)))); });
  const made = box("figure", "", box("figcaption", "", ...latest, text("span", all.length ? ` top ${SHAPE[metrics[0]][1](most)}` : " no data", "dim")), svg);
  svg.addEventListener("pointermove", event => { const at = svg.getBoundingClientRect(); part("at").value = Math.round((event.clientX - at.left) / at.width * (SLOTS - 1)); read(); });
  return made;
}
function read() {
  const slot = +part("at").value, [of, series] = chosen(), metrics = (of === "clusters" ? OF_CLUSTER : PANELS).flat();
  const here = marks().filter(c => slotOf(c.at) === slot).map(named);
  const said = measured()[slot] == null ? "nobody measured" : metrics.map(metric => `${SHAPE[metric][0]} ${SHAPE[metric][1](series[metric]?.[slot])}`).join(", ");
  const all = plain([`${clock(when(slot))} UTC: ${said}`, ...here].join("; "));
  part("reading").textContent = all;
  part("at").setAttribute("aria-valuetext", all);
  for (const line of $("hour").querySelectorAll(".cursor")) { const x = slot * 600 / (SLOTS - 1); line.setAttribute("x1", x); line.setAttribute("x2", x); }
}
function rows(metrics, series) {
  const EACH = 30, head = ["from (UTC)", ...metrics.map(metric => SHAPE[metric][0] + (["rate", "errors"].includes(metric) ? ", mean" : ", most")), "changes"], made = [];
  for (let slot = SLOTS - EACH; slot >= 0; slot -= EACH) {
    const cells = metrics.map(metric => {
      const some = values((series[metric] || []).slice(slot, slot + EACH));
      return some.length ? SHAPE[metric][1](["rate", "errors"].includes(metric) ? sum(some, v => v) / some.length : Math.max(...some)) : "no data";
    });
    made.push([clock(when(slot)), ...cells, marks().filter(c => slotOf(c.at) >= slot && slotOf(c.at) < slot + EACH).map(named).join("; ")]);
  }
  const table = document.createElement("table"), top = table.createTHead().insertRow(), into = table.createTBody();
  for (const name of head) { const th = text("th", name); th.scope = "col"; top.append(th); }
  for (const row of made) { const tr = into.insertRow(); row.forEach((value, i) => { const td = text("td", value, i > metrics.length ? "why" : "t"); td.dataset.label = head[i]; tr.append(td); }); }
  return table;
}
function charts() {
  if (!known.instance) return;
  choices();
  const [of, series] = chosen(), panels = of === "clusters" ? OF_CLUSTER : PANELS, version = JSON.stringify([known.instance, known.last, known.seq, part("whose").value, part("asTable").open]);
  if (version === drawn) return;
  drawn = version;
  part("charts").replaceChildren(...panels.map(metrics => panel(metrics, series)));
  part("rows").replaceChildren(...part("asTable").open ? [rows(panels.flat(), series)] : []);
  read();
}

// what changed

function subject(c) {
  const shown = named(c), place = c.cluster || c.controller;
  if (c.object) return box("span", "", toFilter(place, shown), " ", toObject(c.object));
  if (place) return toFilter(place, shown);
  if (!c.section) return shown;
  const button = text("button", shown, "link");
  button.type = "button"; button.dataset.section = c.section;
  return button;
}
function display() {
  const list = [...known.changes.values()].sort((a, b) => b.at - a.at || b.seq - a.seq), recent = list.filter(c => now - c.at < 3600), moved = values(measured()).some(v => v > 0);
  section("hour", known.problem || (values(measured()).length ? `${some(marks().length, "mark")}` : "no data yet"), !moved && !marks().length);
  if ($("hour").firstElementChild.open) charts();
  section("changes", known.problem || (recent.length ? `${num(recent.length)} in the last hour` : "none in the last hour"), !recent.length);
  table(body("changes"), "changes", [["at (UTC)", c => since(c.at), "t"], ["kind", c => pill(c.kind, LEVEL[c.level] || "note")], ["what", subject, "object"], ["details", c => c.text, "why"],
    ["times", c => c.count > 1 ? `${num(c.count)} since ${stamp(c.firstAt)}` : "", "n"]], list, "Nothing has changed since an observer began to look.", c => `${known.instance} ${c.id}`);
}
part("whose").addEventListener("change", charts);
part("at").addEventListener("input", read);
part("asTable").addEventListener("toggle", charts);
$("hour").firstElementChild.addEventListener("toggle", () => { if ($("hour").firstElementChild.open) charts(); });
document.addEventListener("click", event => {
  const at = event.target.closest?.("button[data-section]"), found = at && $(at.dataset.section);
  if (found) { touched.add(found.id); found.firstElementChild.open = true; found.scrollIntoView({block: "nearest"}); found.querySelector("summary").focus(); }
});
return {display, spark, recall};
})();
