// The controls, the keys, and the start.

let turn = 0;

// Draws the state. A drawing that is overtaken by the next ends early.
async function render() {
  const mine = ++turn;
  const current = () => mine === turn;
  settle();
  byId("panel").setAttribute("aria-busy", "true");
  showControls();
  writeHash();
  try {
    await { text: drawText, head: drawHead, model: drawModel, matrix: drawMatrix }[state.view](current);
    if (current()) await showHeadNumbers(current);
  } catch (error) {
    setReadout(`The weights can't be read: ${error.message}`);
    throw error;
  }
  if (current()) byId("panel").setAttribute("aria-busy", "false");
}

function showControls() {
  const { view } = state;
  for (const name of VIEWS) {
    const tab = byId(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === view));
    tab.tabIndex = name === view ? 0 : -1;
    byId(`view-${name}`).hidden = name !== view;
  }
  byId("tab-text").hidden = !hasText();
  byId("tab-model").hidden = !hasGrid();
  byId("panel").setAttribute("aria-labelledby", `tab-${view}`);
  byId("panel").tabIndex = -1;
  toggle("only-head", view === "head");
  toggle("not-head", view === "model" || view === "matrix");
  toggle("only-model", view === "model");
  byId("text-field").hidden = texts.length === 1;
  byId("site-field").hidden = view === "text" || attention().sites.length === 1;
  byId("layer-field").hidden = view === "text" || site().layers.length === 1;
  byId("head-field").hidden = view === "text" || (site().heads.length === 1 && site().signed);
  byId("head-field").classList.toggle("no-distance", !site().self);
  byId("head-field").classList.toggle("no-numbers", site().signed);
  byId("display-field").hidden = view === "text";
  byId("words-field").hidden = view === "text" || !site().queries.pieces && !site().keys.pieces;
  byId("special-field").hidden = view === "text" || ![...site().queries.special, ...site().keys.special].some(Boolean);
  byId("caption").textContent = caption();
  fillChoices();
  byId("words").checked = state.words;
  byId("special").checked = state.hide;
  byId("minimum").value = String(state.minimum);
  const minimum = MINIMA[state.minimum];
  byId("minimum-value").textContent = site().signed ? `${minimum * 100} % of the largest` : minimum;
  byId("scale").value = state.scale;
  byId("opens").value = state.opens;
  byId("theme").value = state.theme;
  about();
}

function toggle(name, on) {
  for (const element of document.querySelectorAll(`.${name}`)) element.hidden = !on;
}

function caption() {
  if (state.view === "text") return "Sentences of the document and their words";
  const parts = [site().title];
  if (state.view === "model") return [...parts, `${site().layers.length} × ${site().heads.length}`].join(" · ");
  if (site().layers.length > 1) parts.push(layerName(state.layer));
  if (site().heads.length > 1) parts.push(headsTitle());
  return parts.join(" · ");
}

function headsTitle() {
  if (state.heads === "mean") return "mean of all heads";
  const names = drawnHeads().map((head) => site().heads[head.place]);
  if (!names.length) return "no head";
  if (names.length === site().heads.length) return state.view === "matrix" ? "mean of all heads" : "all heads";
  const list = names.join(", ");
  if (names.length === 1) return headName(drawnHeads()[0].place);
  return state.view === "matrix" ? `mean of heads ${list}` : `heads ${list}`;
}

function about() {
  const parts = [];
  if (attention().model) parts.push(make("span", "", attention().model));
  for (const [name, text] of Object.entries(attention().texts)) {
    const part = make("span", "", Object.keys(attention().texts).length > 1 ? `${name} ` : "");
    const quote = make("q", "", text.length > 300 ? `${text.slice(0, 300)}…` : text);
    quote.dir = "auto";
    part.append(quote);
    parts.push(part);
  }
  byId("about").replaceChildren(...parts);
  byId("about").className = "long";
  const pair = ([name, note]) => [make("dt", "", `${name}:`), make("dd", "", note)];
  byId("notes").replaceChildren(...Object.entries(attention().notes).flatMap(pair));
}

// --- choices that follow from text and site ----------------------------------------------------------------------

function fillChoices() {
  const named = texts.map((one, i) => `${i + 1}: ${Object.values(one.texts)[0] ?? one.model}`.slice(0, 80));
  options("text", named, state.text);
  options("site", attention().sites.map((one) => one.title), state.site);
  fillLayers();
  fillHeads();
}

function options(name, labels, chosen) {
  const select = byId(name);
  const of = JSON.stringify(labels);
  if (select.dataset.of !== of) {
    select.dataset.of = of;
    select.replaceChildren(...labels.map((label, i) => Object.assign(make("option", "", label), { value: String(i) })));
  }
  select.value = String(chosen);
}

function fillLayers() {
  const box = byId("layers");
  const of = [state.text, state.site].join();
  if (box.dataset.of !== of) {
    box.dataset.of = of;
    box.replaceChildren(...site().layers.map((name, layer) => {
      const input = Object.assign(make("input"), { type: "radio", name: "layer", value: String(layer) });
      input.setAttribute("aria-label", layerName(layer));
      const choice = make("label");
      choice.append(input, make("span", "", String(name)));
      return choice;
    }));
  }
  box.querySelectorAll("input")[state.layer].checked = true;
}

function fillHeads() {
  const box = byId("heads");
  const of = [state.text, state.site].join();
  if (box.dataset.of !== of) {
    box.dataset.of = of;
    box.replaceChildren(...site().heads.map((name, place) => {
      const button = make("button", "head");
      button.type = "button";
      button.dataset.place = place;
      const title = make("span", "name");
      title.append(make("span", "dot"), make("span", "", String(name)));
      button.append(title, make("span", "entropy"), make("span", "distance"));
      return button;
    }));
  }
  for (const button of box.children) {
    const place = Number(button.dataset.place);
    button.style.setProperty("--head", headColour(place));
    button.setAttribute("aria-pressed", String(state.heads === "mean" || state.heads.includes(place)));
  }
  const several = site().heads.length > 1;
  byId("mean").setAttribute("aria-pressed", String(state.heads === "mean"));
  byId("mean").hidden = byId("all").hidden = !several;
  const matrices = state.view === "matrix" && several;
  byId("heads-note").textContent = matrices ? "Shift adds a head: their mean is shown." : "";
}

async function showHeadNumbers(current) {
  const { rows, columns } = sides();
  const most = Math.log2(columns.labels.length);
  for (const button of byId("heads").children) {
    const place = Number(button.dataset.place);
    const weights = await weightsOf(state.layer, place);
    if (!current()) return;
    cache.numbers ??= new Map();
    if (!cache.numbers.has(place)) {
      cache.numbers.set(place, headNumbers(site(), weights, rows.positions, columns.positions));
    }
    const { entropy, distance } = cache.numbers.get(place);
    button.children[1].textContent = entropy === null ? "" : `${formatNumber(entropy)} bits`;
    button.children[2].textContent = distance === null ? "" : formatNumber(distance);
    const label = [headName(place)];
    if (entropy !== null) label.push(`entropy ${formatNumber(entropy)} of ${formatNumber(most)} bits`);
    if (distance !== null) label.push(`mean distance ${formatNumber(distance)}`);
    button.setAttribute("aria-label", label.join(", "));
  }
}

// --- changes -----------------------------------------------------------------------------------------------------

function change(settings) {
  if ("text" in settings || "site" in settings || "words" in settings || "hide" in settings) {
    at.pinned = at.pointed = at.cell = null;
  }
  Object.assign(state, settings);
  return render();
}

// A head was chosen: lines are drawn for several at once, a matrix is that of one unless Shift adds to it.
function chooseHead(place, shift) {
  const on = state.heads === "mean" ? [] : state.heads;
  const alone = (state.view === "matrix") !== shift;
  const toggled = on.includes(place) ? on.filter((head) => head !== place) : [...on, place];
  change({ heads: alone ? [place] : toggled });
}

function stepLayer(step) {
  change({ layer: clamp(state.layer + step, 0, site().layers.length - 1) });
}

function toggleMean() {
  change({ heads: state.heads === "mean" ? everyHead() : "mean" });
}

const SHORTCUTS = {
  t: () => { if (hasText()) change({ view: "text" }); },
  h: () => change({ view: "head" }),
  g: () => { if (hasGrid()) change({ view: "model" }); },
  m: () => change({ view: "matrix" }),
  "[": () => stepLayer(-1),
  "]": () => stepLayer(1),
  a: () => change({ heads: everyHead() }),
  0: toggleMean,
  w: () => { if (!byId("words-field").hidden) change({ words: !state.words }); },
  s: () => { if (!byId("special-field").hidden) change({ hide: !state.hide }); },
  r: () => change({ scale: SCALES[(SCALES.indexOf(state.scale) + 1) % SCALES.length] }),
  "+": () => zoomBy(1.4),
  "=": () => zoomBy(1.4),
  "-": () => zoomBy(1 / 1.4),
  "?": () => byId("help").showModal(),
};

function shortcut(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (event.target.closest?.("select")) return;
  if (event.key !== "Escape" && !byId("shortcuts").checked) return;
  if (event.key === "Escape") {
    at.pinned = at.pointed = at.cell = null;
    if (state.view === "head") showPointed();
    if (state.view === "matrix") showCell(null);
  } else if (/^[1-9]$/.test(event.key) && site().heads.length > 1) {
    if (Number(event.key) <= site().heads.length) chooseHead(Number(event.key) - 1, false);
  } else if (SHORTCUTS[event.key]) {
    SHORTCUTS[event.key]();
  } else {
    return;
  }
  event.preventDefault();
}

function moveTab(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const views = VIEWS.filter((view) => !byId(`tab-${view}`).hidden);
  const next = views[(views.indexOf(state.view) + step + views.length) % views.length];
  event.preventDefault();
  change({ view: next });
  byId(`tab-${next}`).focus();
}

const darkSystem = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const dark = state.theme === "auto" ? darkSystem.matches : state.theme === "dark";
  document.documentElement.dataset.theme = dark && !printing ? "dark" : "light";
}

function listen() {
  const on = (name, kind, act) => byId(name).addEventListener(kind, act);
  on("text", "change", (event) => change({ text: Number(event.target.value) }));
  on("site", "change", (event) => change({ site: Number(event.target.value) }));
  on("layers", "change", (event) => change({ layer: Number(event.target.value) }));
  on("heads", "click", (event) => {
    const button = event.target.closest(".head");
    if (button && site().heads.length > 1) chooseHead(Number(button.dataset.place), event.shiftKey);
  });
  on("all", "click", () => change({ heads: everyHead() }));
  on("mean", "click", toggleMean);
  on("words", "change", (event) => change({ words: event.target.checked }));
  on("special", "change", (event) => change({ hide: event.target.checked }));
  on("minimum", "input", (event) => change({ minimum: Number(event.target.value) }));
  on("scale", "change", (event) => change({ scale: event.target.value }));
  on("opens", "change", (event) => change({ opens: event.target.value }));
  on("theme", "change", (event) => {
    state.theme = event.target.value;
    applyTheme();
    render();
  });
  on("tabs", "click", (event) => {
    const tab = event.target.closest("[data-view]");
    if (tab) change({ view: tab.dataset.view });
  });
  on("skip", "click", () => byId("panel").focus());
  on("tabs", "keydown", moveTab);
  on("form", "submit", (event) => event.preventDefault());
  on("help-button", "click", () => byId("help").showModal());
  addEventListener("keydown", shortcut);
  addEventListener("hashchange", () => {
    if (location.hash === toHash()) return;
    fromHash(location.hash);
    applyTheme();
    render();
  });
  darkSystem.addEventListener("change", () => {
    applyTheme();
    render();
  });
  addEventListener("beforeprint", () => repaintForPaper(true));
  addEventListener("afterprint", () => repaintForPaper(false));
}

// Paper is white, and shows all at once.
function repaintForPaper(begins) {
  printing = begins;
  applyTheme();
  if (state.view === "head" && lines) {
    colourLines();
    paintLines();
  } else if (state.view === "text") {
    drawText();
  } else if (state.view === "model") {
    for (const button of thumbs.keys()) colourThumb(button);
  } else if (state.view === "matrix" && matrix) {
    matrix.picture = pixels(matrix.weights, matrix.n, matrix.m, matrix.tops, site().signed);
    layOutMatrix();
    paintBar();
    paintMatrix();
  }
}

function listenToSize() {
  let width = innerWidth;
  addEventListener("resize", () => {
    if (state.view === "head") paintLines();
    else if (state.view === "matrix" && matrix) zoomBy(1);
    else if (width !== innerWidth) render();
    width = innerWidth;
  });
}

begin();
fromHash(location.hash);
applyTheme();
byId("controls").open = innerWidth > 760;
listen();
listenToText();
listenToTokens();
listenToGrid();
listenToMatrix();
listenToSize();
globalThis.attention = {
  async shown() {
    const weights = await shownMatrix();
    const { rows, columns } = sides();
    const width = columns.labels.length;
    const row = (_, i) => [...weights.subarray(i * width, (i + 1) * width)];
    return { rows: rows.labels, columns: columns.labels, weights: weights ? rows.labels.map(row) : null };
  },
};
render();
