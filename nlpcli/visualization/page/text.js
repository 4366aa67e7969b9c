// The text view: each sentence with its weight, its words on the colors of theirs.

async function drawText() {
  const sentences = attention().sentences;
  const every = sentences.flatMap((sentence) => sentence.words.map((word) => word.weight));
  const largestOf = (weights) => Math.max(...weights.map(Math.abs)) || 1;
  const top = largestOf(every);
  const documentTop = attention().signed ? largestOf(sentences.map((sentence) => sentence.weight ?? 0)) : 1;
  byId("sentences").replaceChildren(...sentences.map((sentence, number) => {
    const item = make("li");
    const weight = make("span", "weight", sentence.weight === null ? "" : formatWeight(sentence.weight));
    if (sentence.weight !== null) shade(weight, sentence.weight / documentTop);
    const text = make("p", "words");
    text.dir = "auto";
    for (const word of sentence.words) {
      if (word.spaced) text.append(" ");
      const label = tokenLabel(word.text);
      label.dataset.readout = `${formatWeight(word.weight)} of sentence ${number + 1}`;
      shade(label, word.weight / top);
      text.append(label);
    }
    item.append(weight, text);
    return item;
  }));
  byId("text-legend").textContent = attention().meaning;
  setReadout("Point at a word to see its weight.");
}

// The color of a share of the largest weight, with a text that can be read on it.
function shade(element, share) {
  const signed = attention().signed;
  const within = clamp(share, -1, 1);
  const colour = weightColours(signed)[Math.round(signed ? (within + 1) * 127.5 : Math.max(0, within) * 255)];
  const light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140;
  element.style.backgroundColor = `rgb(${colour.join(" ")})`;
  element.style.color = light ? "#000000" : "#ffffff";
}

function listenToText() {
  byId("sentences").addEventListener("pointerover", (event) => {
    const label = event.target.closest("[data-readout]");
    if (label) setReadout(make("b", "", label.textContent), ": ", label.dataset.readout);
  });
}
