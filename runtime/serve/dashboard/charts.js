// Elements and charts. Text becomes textContent, and nothing else: no string is ever parsed as markup.

const SVG = "http://www.w3.org/2000/svg";
const SHADES = 9;

// An element with attributes and children; a child that is no element is text.
export function el(name, attributes = {}, ...children) {
	const svg = ["svg", "rect", "line", "text", "polyline", "title", "g"].includes(name);
	const node = svg ? document.createElementNS(SVG, name) : document.createElement(name);
	for (const [key, value] of Object.entries(attributes))
		if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
	node.append(...children.flat().map(child => child instanceof Node ? child : document.createTextNode(String(child))));
	return node;
}

export function number(value, digits = 3) {
	return value === null || value === undefined ? "–" : Number(Number(value).toPrecision(digits)).toString();
}

export function count(value) {
	return Number(value).toLocaleString("en-US");
}

export function percent(part, whole) {
	return whole > 0 ? `${(100 * part / whole).toFixed(part / whole < 0.1 ? 1 : 0)}%` : "–";
}

// Of Unix time, in UTC, as the log has it; with the date where that is not today's.
export function clock(seconds) {
	const [date, time] = new Date(1000 * seconds).toISOString().slice(0, 19).split("T");
	return date === new Date().toISOString().slice(0, 10) ? time : `${date} ${time}`;
}

// A table with a heading, for those who want a chart's numbers. It stays open when its chart is drawn again.
export function numbers(id, heads, rows, open) {
	return el("details", {id, open: open.has(id)}, el("summary", {id: `${id}-summary`}, "as numbers"),
		el("div", {class: "scroll", tabindex: "0", id: `${id}-scroll`},
			el("table", {class: "figures"},
				el("thead", {}, el("tr", {}, heads.map(head => el("th", {scope: "col", class: "n"}, head)))),
				el("tbody", {}, rows.map(row => el("tr", {}, row.map(cell => el("td", {class: "n"}, cell))))))));
}

// The share of prompts for which a gate spoke within each range of [0, 1], and its threshold. The ranges are narrow at
// both ends, so each has the same width here, and its bounds below it.
export function gateHistogram(histogram, threshold, label) {
	const ends = [0, ...histogram.bounds, 1], n = histogram.counts.reduce((a, b) => a + b, 0);
	const most = Math.max(1, ...histogram.counts), height = 76, width = 400, wide = width / histogram.counts.length;
	const picture = el("svg", {viewBox: `0 0 ${width} ${height + 18}`, role: "img", "aria-label": label});
	histogram.counts.forEach((value, i) => {
		const tall = value ? Math.max(2, height * value / most) : 0;
		picture.append(el("rect", {class: "faint", x: wide * i, y: 0, width: wide - 1, height}),
			el("rect", {class: "fill", x: wide * i, y: height - tall, width: wide - 1, height: tall},
				el("title", {}, `${ends[i]} to ${ends[i + 1]}: ${count(value)} of ${count(n)}`)));
	});
	picture.append(el("line", {class: "axis-line", x1: 0, y1: height, x2: width, y2: height}));
	const i = threshold === null ? -1 : ends.findIndex((end, k) => threshold >= end && threshold <= ends[k + 1]);
	if (i >= 0) {
		const x = wide * (i + (threshold - ends[i]) / (ends[i + 1] - ends[i]));
		picture.append(el("line", {class: "mark", x1: x, y1: 0, x2: x, y2: height}));
	}
	ends.forEach((end, k) => picture.append(el("text", {x: wide * k, y: height + 14,
		"text-anchor": k === 0 ? "start" : k + 1 === ends.length ? "end" : "middle"}, number(end))));
	return picture;
}

// The last values of a series.
export function sparkline(values, length, label) {
	const width = 200, height = 30, most = Math.max(1e-9, ...values);
	const points = values.map((value, i) =>
		`${(width * (length - values.length + i) / (length - 1)).toFixed(1)},${(height - 2 - (height - 4) * value / most).toFixed(1)}`);
	return el("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label},
		el("polyline", {class: "line", points: points.join(" ")}));
}

// How hard each layer is steered, from the first on the left.
export function strip(coef, layers, label) {
	const most = Math.max(0, ...Object.values(coef).map(Math.abs));
	const picture = el("svg", {class: "strip", viewBox: `0 0 ${layers * 4} 18`, preserveAspectRatio: "none", role: "img",
		"aria-label": label}, el("title", {}, label));
	for (let layer = 0; layer < layers; layer++) {
		const value = Math.abs(coef[layer] ?? 0), tall = value ? Math.max(2, 18 * value / most) : 1;
		picture.append(el("rect", {class: value ? "fill" : "faint", x: 4 * layer, y: 18 - tall, width: 3, height: tall}));
	}
	return picture;
}

// A token as a heading, with white space made visible.
function piece(text) {
	return text === " " ? "␣" : text.replaceAll("\n", "↵").replaceAll("\t", "↦").replaceAll(" ", "\u00A0");
}

// The map of a request: a row a layer, a column a token; colour is the push over the strongest one.
export function map(data, open) {
	const first = data.n_prompt - data.from, columns = data.tokens.map((_, p) => p);
	const edge = p => p === first ? "first" : null;
	const cell = (layer, p) => {
		const push = layer.push[p], shade = push > 0 ? Math.min(SHADES, Math.ceil(SHADES * push / data.most)) : 0;
		const read = layer.read && p + 1 === first;
		const says = `${piece(data.tokens[p])} · layer ${layer.layer} · pushed by ${(100 * push).toFixed(1)}%` +
			(read ? " · the gate reads here" : "");
		return el("td", {class: [`c${shade}`, read && "read", edge(p)].filter(Boolean).join(" "),
			title: shade || read ? says : null});
	};
	const head = el("tr", {}, el("td"), columns.map(p => el("th", {scope: "col", class: edge(p)}, el("span", {}, piece(data.tokens[p])))));
	const rows = data.layers.map(layer => el("tr", {}, el("th", {scope: "row"}, layer.layer), columns.map(p => cell(layer, p))));
	const table = numbers("map-numbers", ["layer", "tokens pushed", "mean push", "strongest"], data.layers.map(layer => {
		const pushed = layer.push.filter(push => push > 0), sum = pushed.reduce((a, b) => a + b, 0);
		return [layer.layer, `${pushed.length} of ${columns.length}`,
			pushed.length ? `${(100 * sum / pushed.length).toFixed(1)}%` : "–", `${(100 * Math.max(0, ...pushed)).toFixed(1)}%`];
	}), open);
	return el("div", {}, el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Map of the steering, layer by token"},
		el("table", {class: "map"}, el("thead", {}, head), el("tbody", {}, rows))), table);
}
