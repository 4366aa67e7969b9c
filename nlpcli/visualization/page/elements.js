// Elements of the page. Text enters it as text only, never as HTML.

function byId(name) {
  return document.getElementById(name);
}

function make(kind, name = "", text = "") {
  const element = document.createElement(kind);
  if (name) element.className = name;
  if (text !== "") element.textContent = text;
  return element;
}

// A token, set apart from the direction of the text around it.
function tokenLabel(token) {
  const label = make("bdi", "label", visible(token));
  label.dir = "auto";
  label.classList.toggle("odd", unseen(token));
  return label;
}

// A token of a shown side in bold, with the part of the text it stands in where there are several.
function named(side, place) {
  const token = side.labels[place];
  const element = make("span");
  const bold = make("b");
  bold.append(tokenLabel(token.length > 80 ? `${token.slice(0, 80)}…` : token));
  element.append(bold);
  if (new Set(side.groups).size > 1) element.append(make("span", "soft", ` (${side.groups[place]})`));
  return element;
}

function setReadout(...parts) {
  byId("readout").replaceChildren(...parts);
}
