// Jobs and queues: pages of the hub's jobs, which the hub's shard filters, sorts and cuts. Uses the helpers of status.html.
// Its address: ?job=PART_OF_NAME&phase=PHASE&queue=QUEUE&order=ORDER&page=NUMBER
const JOB_KIND = "batch.raycp.io/v1alpha1/BatchJob", JOB_ROWS = 50, JOBS_EVERY = 2000, JOBS_FOLDED_EVERY = 5000;
const JOB_PHASES = {Failing: "bad", Failed: "bad", Pending: "warn", Queued: "warn", New: "note", Running: "good", Completing: "good", Complete: "note", Suspended: "note"};
const JOB_PODS = [["succeeded", "good"], ["ready", "bar"], ["active, not ready", "background"], ["failed", "bad"], ["wanted, not there", "barbg"]];
const JOB_FILTERS = ["job", "phase", "queue", "order", "page"], JOBS_IDLE = new Set(["Complete", "Failed", "Suspended"]);
const jobs = {address: "", tag: "", data: null, queues: [], problem: "", busy: false, again: false, asked: -1e9, hub: "hub"};

function jobAddress(changes) {
  const at = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) if (value) at.searchParams.set(name, value); else at.searchParams.delete(name);
  return at;
}
function filterJobs(changes) {
  history.replaceState(null, "", jobAddress({page: "", ...changes}));
  readJobFilters();
  askJobs();
}
const jobFilter = name => new URLSearchParams(location.search).get(name) || "";
function jobQuery() {
  const page = Math.max(1, parseInt(jobFilter("page"), 10) || 1), asks = {name: jobFilter("job"), find: wanted(), phase: jobFilter("phase"), queue: jobFilter("queue"), order: jobFilter("order")};
  return new URLSearchParams({...Object.fromEntries(Object.entries(asks).filter(([, v]) => v)), offset: (page - 1) * JOB_ROWS, limit: JOB_ROWS});
}
async function fetched(address, tag) {
  const answer = await fetch(address, {headers: tag ? {"If-None-Match": tag} : {}, signal: AbortSignal.timeout(STALE)});
  if (answer.status === 304) return null;
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error || answer.statusText);
  return [data, answer.headers.get("ETag")];
}
async function askJobs() {
  if (jobs.busy) { jobs.again = true; return; }
  jobs.busy = true; jobs.asked = performance.now();
  const address = "/api/v1/jobs?" + jobQuery();
  try {
    const [page, queues] = await Promise.all([fetched(address, address === jobs.address ? jobs.tag : ""), fetched("/api/v1/queues", "")]);
    if (page) { [jobs.data, jobs.tag] = page; jobs.address = address; }
    jobs.queues = queues[0].queues; jobs.problem = "";
  } catch (e) { jobs.problem = e.message; }
  jobs.busy = false;
  showJobs();
  if (jobs.data && !jobs.problem && !performance.getEntriesByName("jobs").length) performance.mark("jobs");
  const last = Math.max(1, Math.ceil((jobs.data?.matching || 0) / JOB_ROWS)), page = parseInt(jobFilter("page"), 10) || 1;
  if (!jobs.problem && page > last) history.replaceState(null, "", jobAddress({page: last > 1 ? last : ""})), jobs.again = true;  // jobs have gone
  if (jobs.again) { jobs.again = false; askJobs(); }
}

// one tick of the page: a fleet without BatchJob, and one that stands by, have neither section, and are asked nothing
function jobsTick(d) {
  const has = (d.controllers || []).some(c => c.kind === JOB_KIND) && !d.status?.following;
  jobs.hub = ((d.clusters || []).find(c => c.role === "hub") || {}).name || "hub";
  if (!has) { $("jobs").hidden = $("queues").hidden = true; return; }
  showJobs();
  const open = $("jobs").firstElementChild.open || $("queues").firstElementChild.open;
  if (performance.now() - jobs.asked >= (jobs.problem || !open ? JOBS_FOLDED_EVERY : JOBS_EVERY) - 100) askJobs();
}

function podBars(r) {
  const all = text("div", "", "pods");
  for (const c of r.clusters) {
    const whole = Math.max(1, c.succeeded + c.wanted + c.failed), counts = [c.succeeded, c.ready, c.active - c.ready, c.failed], b = bar(...JOB_PODS.slice(0, 4).map(([, fill], i) => [counts[i] / whole, colour(fill)]));
    const told = [c.wanted ? `${num(c.active)} of ${num(c.wanted)} active` : c.admitted ? `${num(c.admitted)} admitted` : "", c.succeeded ? `${num(c.succeeded)} succeeded` : "", c.reachable ? "" : "unreachable"].filter(Boolean).join(", ");
    const one = box("div", "", text("span", c.name, c.reachable ? "" : "bad"), b, box("span", "dim", told, c.failed ? text("span", `${told && ", "}${num(c.failed)} failed`, "bad") : ""));
    one.title = plain(`${c.name}: ${num(c.wanted)} wanted, ${num(c.active)} active, ${num(c.ready)} ready, ${num(c.succeeded)} succeeded, ${num(c.failed)} failed` + (c.admitted == null ? "" : `, ${c.admitted} admitted`) + (c.message ? `; ${c.message}` : ""));
    all.append(one);
  }
  if (r.moreClusters) all.append(text("div", `and ${some(r.moreClusters, "cluster")} more`, "dim"));
  return r.clusters.length ? all : r.phase === "Complete" || r.phase === "Failed" ? "" : text("span", "none yet", "dim");
}
function whyJob(r) {
  const w = r.why, place = w.position ? `${num(w.position)} of ${num(w.pending)} in its queue` : "";
  return box("span", "", w.reason && !w.message.startsWith(w.reason) ? text("b", w.reason + (w.message ? ": " : "")) : "", w.message, place ? text("div", place, "reason") : "");
}
function usageOf(r) {
  const all = text("div", "", "pods");
  for (const u of r.usage) all.append(box("div", "", (u.flavor === "default" || !u.flavor ? "" : u.flavor + " ") + u.resource, bar([u.full, colour(u.full > 1 ? "warn" : "bar")]), box("span", "dim", `${u.used} of ${u.nominal}`, u.borrowed !== "0" ? text("span", `, ${u.borrowed} borrowed`, "warn") : "")));
  return r.usage.length ? all : text("span", "no quota", "dim");
}
function toQueue(name) {
  const a = text("a", name);
  a.href = jobAddress({queue: name, page: ""}).search + location.hash;
  a.addEventListener("click", event => { if (!event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); filterJobs({queue: name}); $("jobs").scrollIntoView({block: "nearest"}); } });
  return a;
}

function showJobs() {
  const d = jobs.data, filtered = JOB_FILTERS.some(jobFilter);
  $("jobs").hidden = !d && !jobs.problem;
  $("queues").hidden = !jobs.queues.length;
  $("jobs-problem").hidden = !jobs.problem;
  $("jobs-problem").textContent = plain(jobs.problem + (d ? ": what is shown is older" : ""));
  if (!d) { if (jobs.problem) section("jobs", jobs.problem, false); return; }
  const told = Object.entries(d.phases).map(([phase, count]) => `${num(count)} ${phase.toLowerCase()}`).join(", ");
  section("jobs", d.total ? `${some(d.total, "job")}: ${told}` : d.listed ? "no job" : "the jobs are not listed yet", !filtered && Object.keys(d.phases).every(phase => JOBS_IDLE.has(phase)));
  jobOptions("jobs-phase", "every phase", Object.keys(JOB_PHASES).map(phase => [phase, d.phases[phase] || 0]), jobFilter("phase"));
  jobOptions("jobs-queue", "every queue", Object.entries(d.queues).sort(), jobFilter("queue"), "without a queue");
  const t = table($("jobs-table"), "jobs", [["job", r => toObject(`${jobs.hub}/${JOB_KIND}/${r.namespace}/${r.name}`, `${r.namespace}/${r.name}`), "name"], ["phase", r => box("span", "", pill(r.phase, JOB_PHASES[r.phase] || "note"), r.deleting ? text("span", " deleted", "dim") : "")],
    ["queue", r => r.queue ? toQueue(r.queue) : ""], ["Pods by cluster", podBars, "bars"], ["done", r => r.completions == null ? num(r.succeeded) : `${num(r.succeeded)} / ${num(r.completions)}`, "n"],
    ["failed", r => flag(r.failed, "bad"), "n"], ["age", r => r.created ? span(Math.max(0, now - r.created)) : "", "n"], ["why", whyJob, "why"]],
    d.items, filtered || wanted() ? `none of ${some(d.total, "job")} matches` : "no job", r => `${r.namespace}/${r.name}`, true);
  if (d.items.length && !t.legend.children.length) t.legend.append(box("div", "legend", ...JOB_PODS.map(([what, fill]) => { const i = text("i", "", "dot"); i.style.background = colour(fill); return box("span", "", i, what); })));
  const page = Math.max(1, parseInt(jobFilter("page"), 10) || 1), first = (page - 1) * JOB_ROWS;
  $("jobs-previous").disabled = page < 2; $("jobs-next").disabled = first + JOB_ROWS >= d.matching;
  $("jobs-pager").hidden = d.matching <= JOB_ROWS && page < 2;
  $("jobs-at").textContent = `${num(Math.min(first + 1, d.matching))} to ${num(Math.min(first + d.items.length, d.matching))} of ${num(d.matching)}`;

  const waiting = sum(jobs.queues, r => r.pending), stopped = jobs.queues.filter(r => r.problem).length;
  section("queues", `${some(jobs.queues.length, "queue")}, ${some(waiting, "job")} waiting` + (stopped ? `, ${num(stopped)} admit nothing` : ""), !waiting && !stopped);
  table(body("queues"), "queues", [["queue", r => toQueue(r.name), "name"], ["cohort", r => r.cohort], ["waiting", r => flag(r.pending, "warn"), "n"], ["admitted", r => num(r.admitted), "n"], ["quota in use", usageOf, "bars"],
    ["next", r => r.head ? box("span", "", text("b", r.head.job), r.head.reason ? `: ${r.head.message || r.head.reason}` : "") : "", "why"], ["problem", r => r.problem ? text("span", r.problem, "bad") : "", "state"]],
    [...jobs.queues].sort((a, b) => b.pending - a.pending), "no queue", r => r.name);
}
function jobOptions(id, every, rows, chosen, none) {
  const e = $(id), shown = [["", every], ...rows.map(([name, count]) => [name, `${name === "-" ? none : name} (${num(count)})`])];
  if (chosen && !rows.some(([name]) => name === chosen)) shown.push([chosen, chosen]);
  if (document.activeElement === e && e.options.length === shown.length) return;  // not under the pointer of who is choosing
  const is = JSON.stringify(shown);
  if (e.dataset.is !== is) { e.dataset.is = is; e.replaceChildren(...shown.map(([value, label]) => { const o = text("option", label); o.value = value; return o; })); }
  e.value = chosen;
}
function readJobFilters() {
  if (document.activeElement !== $("jobs-name")) $("jobs-name").value = jobFilter("job");
  $("jobs-phase").value = jobFilter("phase"); $("jobs-queue").value = jobFilter("queue"); $("jobs-order").value = jobFilter("order");
}
const turnJobs = by => { const page = (parseInt(jobFilter("page"), 10) || 1) + by; filterJobs({page: page > 1 ? page : ""}); };
$("jobs-form").addEventListener("submit", event => event.preventDefault());
$("jobs-name").addEventListener("input", () => filterJobs({job: $("jobs-name").value.trim()}));
for (const name of ["phase", "queue", "order"]) $("jobs-" + name).addEventListener("change", () => filterJobs({[name]: $("jobs-" + name).value}));
$("jobs-previous").addEventListener("click", () => turnJobs(-1));
$("jobs-next").addEventListener("click", () => turnJobs(1));
$("find").addEventListener("input", () => { if (jobs.data) askJobs(); });
addEventListener("popstate", () => { readJobFilters(); if (jobs.data) askJobs(); });
readJobFilters();
