// The operators' page: asks once a second, and shows the answer. docs/serve.md says what for whom.
import {clock, count, el, gateHistogram, map, number, numbers, percent, sparkline, strip} from "/dashboard/charts.js";

const EVERY = 1000, RATES = 60;
const by = id => document.getElementById(id);
const open = new Set(); // ids of details that are open
const rates = [];
let key = "", now = null, head = null, last = null, entries = -1, logAt = 0, doing = "stop";

async function ask(path, body, most = 5000) {
	const headers = key ? {Authorization: `Bearer ${key}`} : {};
	if (body) headers["Content-Type"] = "application/json";
	const answer = await fetch(path, {method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body),
		cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(most)});
	const value = await answer.json();
	if (!answer.ok) throw Object.assign(new Error(value.error?.message ?? `status ${answer.status}`), {status: answer.status});
	return value;
}

function say(id, text) {
	const node = by(id);
	if (node.textContent !== text) node.textContent = text;
}

function trouble(id, text) {
	by(id).hidden = !text;
	say(id, text);
}

// Puts other children in; whoever had the focus has it still.
function put(id, children) {
	const focus = document.activeElement?.id;
	by(id).replaceChildren(...children);
	if (focus && document.activeElement?.id !== focus) by(focus)?.focus({preventScroll: true});
}

function nothing(columns, text) {
	return el("tr", {}, el("td", {colspan: columns, class: "note"}, text));
}

// ---- What steered a request

function layersOf(coef) {
	const layers = Object.keys(coef).map(Number);
	if (!layers.length) return "no layer";
	return layers.length === 1 ? `layer ${layers[0]}` : `layers ${Math.min(...layers)} to ${Math.max(...layers)}`;
}

function decision(one, shadow) {
	const coef = one.coef ?? {}, hard = Math.max(0, ...Object.values(coef).map(Math.abs));
	const gate = one.gate === undefined ? "the gate has not spoken" : one.threshold === null || one.threshold === undefined
		? `gate ${number(one.gate)}` : `gate ${number(one.gate)}, threshold ${number(one.threshold)}`;
	const how = one.killed ? "stopped" : one.s === undefined ? "" : shadow ? "shadow" : hard ? `up to ${number(hard)} in ${layersOf(coef)}` : "not steered";
	const what = `${one.policy} ${one.version?.slice(0, 8) ?? ""} × ${number(one.scale)}`;
	return el("div", {class: "facts"},
		el("span", {class: "what"}, what, el("br"), el("small", {}, `${gate}${how ? ` · ${how}` : ""}`)),
		shadow ? "" : strip(coef, now.model.n_layers, `${one.policy}: ${how || "waits"}`));
}

function decisions(row) {
	const all = (row.steering ?? []).map(one => decision(one, false)).concat((row.shadow ?? []).map(one => decision(one, true)));
	return all.length ? all : [el("span", {class: "note"}, row.stage === "reading" ? "is read" : "no policy")];
}

// ---- Cards

function quantile(histogram, share) {
	const n = histogram.counts.reduce((a, b) => a + b, 0);
	for (let i = 0, sum = 0; n && i < histogram.bounds.length; sum += histogram.counts[i++]) {
		if (sum + histogram.counts[i] < share * n) continue;
		const low = i ? histogram.bounds[i - 1] : 0;
		return low + (histogram.bounds[i] - low) * (share * n - sum) / histogram.counts[i];
	}
	return n ? histogram.bounds.at(-1) : null;
}

function seconds(value) {
	return value === null ? "–" : value < 1 ? `${number(1000 * value, 2)} ms` : `${number(value, 2)} s`;
}

function showCards() {
	const e = now.engine, audit = now.audit;
	const total = name => now.policies.reduce((sum, one) => sum + one[name], 0);
	const all = total("acted") + total("closed") + total("off") + total("killed_requests");
	say("running-n", `${e.running} + ${e.waiting}`);
	say("running-more", `run and wait; ${percent(e.used_pages, e.pages)} of the KV pages; ${count(e.ended)} ended, ` +
		`${count(e.abandoned)} left, ${count(e.failed)} failed, ${count(e.refused)} refused`);
	say("rate", rates.length ? number(rates.at(-1), 3) : "–");
	put("rate-chart", [sparkline(rates, RATES, `tokens a second, the last ${RATES} seconds, most ${number(Math.max(0, ...rates))}`)]);
	say("acted", percent(total("acted"), all));
	say("acted-more", `${count(total("acted"))} of ${count(all)} that a policy was on; ${count(total("closed"))} with the gate closed, ` +
		`${count(total("off"))} at scale 0, ${count(total("killed_requests"))} stopped`);
	say("ttft", seconds(quantile(e.first_token, 0.5)));
	say("ttft-more", `median; 99% within ${seconds(quantile(e.first_token, 0.99))}`);
	say("head", audit ? head ? count(head.size) : "…" : "none");
	say("head-more", !audit ? "no --state, so nothing is recorded" : !head ? "" : `entries; ${count(head.signed)} of them signed, ` +
		`${count(Math.round(audit.checkpoint_age))} s ago; ${count(audit.queued)} wait, ${count(audit.lost)} lost; root ${head.root.slice(0, 12)} of ` +
		`${head.name}${audit.takes ? "" : "; it cannot be written, so requests are refused"}`);
	say("origin", `trimtab ${now.model.version}, up since ${new Date(1000 * now.started).toISOString().slice(0, 19).replace("T", " ")} UTC` +
		(now.you.person ? `; you are ${now.you.person}` : ""));
}

// ---- Policies

// A probe says how likely it is that a prompt is one to steer; what other gates say has no scale of its own.
function gateChart(one, id) {
	if (one.gate_kind === "always") return el("p", {class: "note"}, "The gate is always open.");
	const says = one.threshold === null ? "" : `threshold ${number(one.threshold)}, open ${one.opens_below ? "below" : "above"} it`;
	if (one.gate_kind !== "probe" && one.gate_kind !== "probe_mlp")
		return el("p", {class: "note"}, `Numbers of this kind of gate have no common scale, so they are not drawn${says && `; ${says}`}.`);
	const spoke = one.gate.counts.reduce((a, b) => a + b, 0), ends = [0, ...one.gate.bounds, 1];
	if (!spoke) return el("p", {class: "note"}, "The gate has not spoken yet.");
	return el("div", {}, gateHistogram(one.gate, one.threshold, `What the gate of ${`${one.policy} ${one.label}`.trim()} said of ${count(spoke)} prompts`),
		el("p", {class: "axis"}, `${count(spoke)} prompts by what the gate said`, says && el("span", {}, `dashed: ${says}`)),
		numbers(id, ["from", "to", "prompts"], one.gate.counts.map((value, i) => [ends[i], ends[i + 1], count(value)]), open));
}

function policyCard(one) {
	const n = one.acted + one.closed + one.off + one.killed_requests;
	const id = `gate-${one.policy}-${one.label}-${one.version.slice(0, 12)}`;
	const tags = [one.label && ["plain", one.label], one.mandatory && ["plain", "mandatory"], one.is_shadow && ["plain", "shadow"],
		one.killed || now.killed ? ["off", "stopped"] : one.scale === undefined ? ["plain", "by request"] : ["on", `every request × ${number(one.scale)}`]];
	const resume = one.killed && now.you.resume
		? el("button", {type: "button", class: "small", id: `resume-${id}`, "data-resume": one.policy}, `Resume ${one.policy}`) : "";
	return el("div", {class: "policy"},
		el("h3", {}, `${one.policy} `, el("small", {}, one.version.slice(0, 12)), " ", tags.filter(Boolean).map(([kind, text]) => el("span", {class: `tag ${kind}`}, text))),
		el("p", {class: "note"}, one.is_shadow ? `gate ${one.gate_kind}; would have steered ${count(one.shadow_open)} of ${count(one.shadow_open + one.shadow_closed)}`
			: `${one.operation}, gate ${one.gate_kind}; steered ${count(one.acted)} of ${count(n)} (${percent(one.acted, n)}), ${count(one.tokens)} tokens`),
		gateChart(one, id), resume);
}

function showPolicies() {
	put("policies", now.policies.length ? now.policies.map(policyCard)
		: [el("p", {class: "note"}, "No policy is loaded: nothing is steered.")]);
}

// ---- Requests

function showRunning() {
	const rows = now.running.map(row => el("tr", {}, el("td", {}, `${number(row.seconds, 2)} s`),
		el("td", {}, row.route, row.stream ? " stream" : "", row.choices > 1 ? ` × ${row.choices}` : "", el("small", {}, row.id.slice(0, 8))),
		el("td", {}, row.key || "–"), el("td", {class: "n"}, row.prompt_tokens ?? ""), el("td", {class: "n"}, row.tokens ?? ""),
		el("td", {}, decisions(row))));
	if (now.running_of > now.running.length) rows.push(nothing(6, `and ${now.running_of - now.running.length} more`));
	put("running", rows.length ? rows : [nothing(6, "nothing runs")]);
}

function showEnded(requests) {
	const rows = requests.map(row => el("tr", {}, el("td", {}, clock(Date.parse(row.at) / 1000)), el("td", {class: "n"}, row.seq), el("td", {}, row.key || "–"),
		el("td", {class: "n"}, row.prompt_tokens), el("td", {class: "n"}, row.tokens ?? "–"), el("td", {}, row.finish ?? row.kind),
		el("td", {}, decisions(row)), el("td", {}, row.finish && row.steering?.length ? el("button", {type: "button", class: "small", id: `map-${row.seq}`,
			"data-map": row.seq, disabled: !now.you.text || !now.audit.keeps_text, "aria-label": `Map of request ${row.seq}`}, "Map") : "")));
	put("ended", rows.length ? rows : [nothing(8, "no request has ended yet")]);
	say("ended-note", !now.audit.keeps_text ? "Maps are made by running a request again, which takes its text (--keep-text all)."
		: now.you.text ? "Times are UTC. A map is made by running the request again, and compared with the log, bit for bit."
			: `Times are UTC. Maps show text, which takes a key with one of the roles ${now.you.roles.text}.`);
}

function showChanges(changes) {
	put("changes", changes.length ? changes.map(one => el("tr", {}, el("td", {}, clock(one.at)), el("td", {class: "n"}, one.seq), el("td", {}, one.kind),
		el("td", {}, one.policy || one.fields?.label || "–"), el("td", {}, one.person || "–"), el("td", {}, one.fields?.reason ?? ""))) : [nothing(6, "none")]);
}

async function showMap(seq) {
	const mine = key;
	put("map", []);
	say("map-note", `Running request ${seq} again …`);
	try {
		const data = await ask(`/v1/admin/map/${seq}`, null, 40_000);
		if (key !== mine) return;
		say("map-note", "");
		const replay = data.outcome === "equal" ? "the same tokens, log-probabilities and coefficients, bit for bit" : `${data.outcome}: ${data.why}`;
		put("map", [el("figure", {id: "map-made", tabindex: -1}, el("figcaption", {}, el("b", {}, `Request ${seq}, run again: `), replay,
			el("small", {}, data.most > 0 ? `strongest push ${(100 * data.most).toFixed(1)}% of the stream's length; the line is where the answer begins` : "nothing was pushed")),
		map(data, open))]);
		by("map-made").focus();
	} catch (error) {
		if (key !== mine) return;
		say("map-note", "");
		put("map", [el("p", {class: "trouble", role: "alert"}, `Request ${seq}: ${error.message}`)]);
	}
}

// ---- The kill switch

function showSwitch() {
	const stopped = now.killed, may = now.store && (stopped ? now.you.resume : now.you.kill);
	const some = now.policies.some(one => one.killed);
	say("state", stopped ? "steering stopped" : some ? "steering on, a policy stopped" : now.policies.length ? "steering on" : "no policy");
	by("state").className = `badge${stopped || some ? " off" : now.policies.length ? "" : " none"}`;
	say("stop", stopped ? "Resume steering" : "Stop steering");
	by("stop").className = stopped ? "stop resume" : "stop";
	by("stop").disabled = !may;
	say("stop-why", may ? "" : !now.store ? "This takes a store (--state)." : `This takes a key with one of the roles ${now.you.roles[stopped ? "resume" : "kill"]}.`);
}

function confirm(what, policy) {
	const names = [...new Set(now.policies.map(one => one.policy))].filter(name => what === "stop" || name === policy);
	const scopes = what === "resume" && policy ? names.map(name => [name, name]) : [["", "all steering"], ...what === "stop" ? names.map(name => [name, name]) : []];
	doing = what;
	say("confirm-title", what === "stop" ? "Stop steering?" : "Resume steering?");
	say("confirm-what", what === "stop" ? "Requests that run go on unsteered from their next token. It holds until somebody with the right resumes it, also after a restart, and is on record under your name."
		: "Requests that come from now on are steered again. It is on record under your name.");
	put("scope", scopes.map(([value, text]) => el("option", {value}, text)));
	by("scope").value = policy ?? "";
	by("reason").value = "";
	by("confirm-yes").className = what === "stop" ? "stop" : "stop resume";
	say("confirm-yes", what === "stop" ? "Stop" : "Resume");
	trouble("confirm-trouble", "");
	by("confirm").showModal();
	by("confirm-no").focus();
}

async function carryOut(event) {
	event.preventDefault();
	const name = by("scope").value, reason = by("reason").value.trim();
	try {
		await ask(`/v1/admin/policy/${doing === "stop" ? "kill" : "resume"}`, {...name && {name}, ...reason && {reason}});
		by("confirm").close();
		await look();
	} catch (error) {
		trouble("confirm-trouble", error.message);
	}
}

// ---- Once a second

function show(next) {
	const at = performance.now();
	if (now && last) {
		rates.push(Math.max(0, next.engine.tokens - now.engine.tokens) / Math.max(0.001, (at - last) / 1000));
		rates.splice(0, rates.length - RATES);
	}
	now = next;
	last = at;
	by("login").hidden = true;
	by("all").hidden = false;
	say("model", `${now.model.name}, ${now.model.n_layers} layers, ${now.model.mode} mode on ${now.model.backend}`);
	showSwitch();
	showCards();
	showPolicies();
	showRunning();
}

async function showLog() {
	if (!now.audit) {
		put("ended", [nothing(8, "no --state, so nothing is recorded")]);
		put("changes", [nothing(6, "no --state")]);
		return;
	}
	if (now.audit.entries === entries && performance.now() - logAt < 10 * EVERY) return;
	const mine = key, log = await ask("/v1/admin/log");
	if (key !== mine) return;
	entries = now.audit.entries;
	logAt = performance.now();
	head = log.head;
	showEnded(log.requests);
	showChanges(log.changes);
}

// What the next key may not see.
function forget() {
	if (by("confirm").open) by("confirm").close();
	for (const id of ["map", "ended", "changes"]) put(id, []);
	say("map-note", "");
	entries = -1;
	head = null;
}

async function look() {
	const mine = key;
	try {
		const next = await ask("/v1/admin/live");
		if (key !== mine) return;
		show(next);
		await showLog();
		trouble("trouble", "");
	} catch (error) {
		if (key !== mine) return; // somebody else is here
		if (error.status === 401 || error.status === 403) {
			forget();
			by("all").hidden = true;
			if (key) trouble("trouble", error.message);
			key = "";
			by("stop").disabled = true;
			say("state", "a key is needed");
			by("state").className = "badge none";
			by("login").hidden = false;
		} else {
			trouble("trouble", error.status ? error.message : `The server does not answer: ${error.message}`);
			if (error.status) return;
			say("state", "unknown");
			by("state").className = "badge none";
		}
	}
}

async function run() {
	if (!document.hidden && by("login").hidden) await look();
	setTimeout(run, EVERY);
}

document.addEventListener("toggle", event => {
	if (event.target.id) open[event.target.open ? "add" : "delete"](event.target.id);
}, true);
document.addEventListener("click", event => {
	const button = event.target.closest?.("button");
	if (button?.dataset.map) showMap(Number(button.dataset.map));
	if (button?.dataset.resume) confirm("resume", button.dataset.resume);
});
by("stop").addEventListener("click", () => confirm(now.killed ? "resume" : "stop"));
by("confirm-form").addEventListener("submit", carryOut);
by("confirm-no").addEventListener("click", () => by("confirm").close());
by("login").addEventListener("submit", event => {
	event.preventDefault();
	key = by("key").value.trim();
	by("key").value = "";
	look();
});
run();
