"use strict";

const FEW = 5; // classes shown at once
const drop = document.querySelector("#drop"), picker = document.querySelector("#files");
const results = document.querySelector("#results"), status = document.querySelector("#status");
const clear = document.querySelector("#clear"), template = document.querySelector("#result");
const mostBytes = Number(drop.dataset.mostBytes), threshold = Number(drop.dataset.threshold);
let given = 0, done = 0, last = Promise.resolve();

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function bar({label, probability}) {
  const row = element("div", "row"), track = element("div", "track"), fill = element("div", "fill");
  fill.style.width = `${100 * probability}%`;
  track.append(fill);
  row.append(element("span", "who", label), track, element("b", "", percent(probability)));
  return row;
}

function example({label, example, similarity, picture}) {
  const item = element("li", ""), image = element("img", "");
  image.src = picture;
  image.alt = `${label}: ${example}`;
  image.title = example;
  item.append(image, label, element("small", "", `similarity ${similarity.toFixed(2)}`));
  return item;
}

function showError(card, error) {
  card.classList.add("failed");
  card.querySelector(".marks").append(element("p", "note warn", error));
}

function show(card, found) {
  const part = name => card.querySelector(name), {top} = found;
  const seen = element("img", "seen");
  seen.src = found.picture;
  seen.alt = found.image;
  card.prepend(seen);
  part(".best").append(found.label, element("small", "", percent(found.probability)));
  if (found.novelty !== null) {
    const figures = `novelty ${found.novelty.toFixed(2)}, unlike from ${threshold.toFixed(2)} on`;
    card.classList.toggle("unlike", found.unlike_training);
    part(".marks").append(found.unlike_training
      ? element("p", "note warn", `Unlike the client's training images (${figures}): the class means little.`)
      : element("p", "small soft", `Like the client's training images: ${figures}.`));
  }
  if (found.warning) part(".marks").append(element("p", "note warn", found.warning));
  part(".said > .bars").append(...top.slice(0, FEW).map(bar));
  if (top.length > FEW) {
    part(".others").hidden = false;
    part(".others summary").textContent = `The other ${top.length - FEW}`;
    part(".others .bars").append(...top.slice(FEW).map(bar));
  }
  if (found.neighbours.length) {
    part(".near").hidden = false;
    part(".near ul").append(...found.neighbours.map(example));
  }
}

async function ask(file) {
  if (file.size > mostBytes) return {error: `larger than ${mostBytes / 1e6} MB: make it smaller`};
  const form = new FormData();
  form.append(drop.dataset.field, file);
  try {
    const response = await fetch("/predict?neighbours=4&picture=true", {method: "POST", body: form});
    const answer = await response.json();
    return response.ok ? answer.images[0] : answer;
  } catch {
    return {error: "no answer: is secfpp page still running, and the file still there?"};
  }
}

function tell() {
  status.textContent = given ? `${done} of ${given} ${given === 1 ? "image" : "images"} answered` : "";
  clear.hidden = !given;
}

function take(files) {
  for (const file of files) {
    const card = template.content.cloneNode(true).firstElementChild;
    card.querySelector(".name").textContent = file.name;
    results.append(card);
    given += 1;
    // One after the other, so that each is shown as soon as it is answered.
    last = last.then(async () => {
      if (!card.isConnected) return;
      const found = await ask(file);
      if (!card.isConnected) return;
      card.removeAttribute("aria-busy");
      if (found.error) showError(card, found.error);
      else show(card, found);
      done += 1;
      tell();
    });
  }
  tell();
}

picker.addEventListener("change", () => {
  take([...picker.files]);
  picker.value = "";
});
clear.addEventListener("click", () => {
  results.replaceChildren();
  given = done = 0;
  tell();
  picker.focus();
});
for (const kind of ["dragenter", "dragover"])
  document.addEventListener(kind, event => {
    event.preventDefault();
    drop.classList.add("over");
  });
document.addEventListener("dragleave", event => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", event => {
  event.preventDefault();
  drop.classList.remove("over");
  take([...event.dataTransfer.files]);
});
