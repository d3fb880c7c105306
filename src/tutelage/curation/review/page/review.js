const $ = (id) => document.getElementById(id);

// Everything that comes from data becomes text; the page's policy allows nothing else.
const made = (name, { text = "", kind = "" } = {}, ...children) => {
  const element = document.createElement(name);
  element.textContent = text;
  if (kind) element.className = kind;
  element.append(...children);
  return element;
};

// Names of files may hold anything: what cannot be seen, or turns the text around it, is shown by its number.
const visible = (name, kept = "") =>
  name.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/gu, (character) =>
    character === kept ? kept : `\\u{${character.codePointAt(0).toString(16)}}`);

const WORDS = { leak: "leak", fine: "not a leak" };
const PIXELS = 64; // the smallest images are enlarged pixel by pixel

let suspects = [];
let decisions = [];
let at = 0;
let busy = false;
const history = [];
const sheets = new Map();

function text(address, sample, ...caption) {
  const shown = made("blockquote", { text: "…" });
  shown.dir = "auto";
  fetch(address)
    .then(async (answer) => {
      const words = await answer.text();
      shown.textContent = answer.ok ? visible(words, "\n") : words;
      if (!answer.ok) shown.className = "missing";
    })
    .catch(() => {
      shown.textContent = "This text cannot be shown.";
      shown.className = "missing";
    });
  return figure(shown, sample, caption);
}

function figure(shown, sample, caption) {
  const name = made("bdi", { text: visible(sample.id) });
  name.title = visible(`${sample.source}: ${sample.id}`);
  return made("figure", {}, shown, made("figcaption", {}, ...caption, name));
}

function picture(address, image, ...caption) {
  const shown = new Image();
  shown.alt = visible(image.id);
  shown.addEventListener("load", () => {
    shown.classList.toggle("pixels", Math.max(shown.naturalWidth, shown.naturalHeight) <= PIXELS);
  });
  shown.addEventListener("error", async () => {
    const missing = made("p", { text: "This image cannot be shown.", kind: "missing" });
    shown.replaceWith(missing);
    const answer = await fetch(address).catch(() => null);
    if (answer && !answer.ok) missing.textContent = await answer.text();
  });
  shown.src = address;
  return figure(shown, image, caption);
}

function sheet(number) {
  if (!sheets.has(number)) {
    const suspect = suspects[number];
    const [show, what] = suspect.modality === "text" ? [text, "texts"] : [picture, "images"];
    const nearest = suspect.nearest.map((near, row) =>
      show(`pictures/${number}/${row}`, near, made("b", { text: near.similarity.toFixed(4) }), ` · ${near.part}`));
    sheets.set(number, [
      made("div", { kind: "suspect" }, made("h2", { text: "Suspect" }),
        show(`pictures/${number}`, suspect)),
      made("div", {}, made("h2", { text: `Nearest ${what} of the task, with their similarity` }),
        made("div", { kind: "nearest" }, ...nearest)),
    ]);
  }
  return sheets.get(number);
}

function show(number) {
  at = number;
  $("sheet").replaceChildren(...sheet(at));
  const ahead = after(at) ?? Math.min(at + 1, suspects.length - 1);
  sheet(ahead); // is loaded while this one is looked at
  for (const other of sheets.keys()) if (other !== at && other !== ahead) sheets.delete(other);
  render();
}

function render() {
  const count = (value) => decisions.filter((each) => each === value).length;
  const [leaks, fine, left] = [count("leak"), count("fine"), count(null)];
  $("place").textContent = `${at + 1} of ${suspects.length}`;
  $("counts").textContent = `${left} left to decide · ${leaks} ${leaks === 1 ? "leak" : "leaks"} · ${fine} not`;
  $("bar").max = suspects.length;
  $("bar").value = leaks + fine;
  for (const choice of ["leak", "fine"]) $(choice).setAttribute("aria-pressed", decisions[at] === choice);
  $("undo").disabled = !history.length;
  $("back").disabled = at === 0;
  $("next").disabled = at === suspects.length - 1;
  $("finished").hidden = left > 0;
  $("summary").textContent = `All are decided: ${leaks} ${leaks === 1 ? "leak" : "leaks"}, ${fine} not.`;
  [...$("overview").children].forEach((cell, number) => {
    cell.className = decisions[number] ?? "";
    cell.setAttribute("aria-current", number === at);
    cell.setAttribute("aria-label", `${number + 1}: ${WORDS[decisions[number]] ?? "not decided"}`);
  });
  // Not scrollIntoView, which moves the whole page along.
  const [overview, cell] = [$("overview"), $("overview").children[at]];
  overview.scrollTop = cell.offsetTop - overview.offsetTop - overview.clientHeight / 2;
}

/** The next suspect that is not decided, from the one after on, around the end; null if there is none. */
function after(number) {
  for (let step = 1; step < suspects.length; step++) {
    const other = (number + step) % suspects.length;
    if (decisions[other] === null) return other;
  }
  return null;
}

async function post(place, data) {
  const answer = await fetch(place, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(data),
  }).catch(() => {
    throw new Error("the server does not answer; is `tutelage review` still running?");
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

/** Save, and only then go on; whatever is pressed in between is not for an image that has been seen. */
async function save(number, decision) {
  if (busy) return false;
  busy = true;
  try {
    decisions = (await post("decisions", { suspect: number, decision })).decisions;
    $("failure").textContent = "";
    return true;
  } catch (error) {
    $("failure").textContent = `Not saved: ${error.message}`;
    return false;
  } finally {
    busy = false;
  }
}

async function decide(decision) {
  const [number, before] = [at, decisions[at]];
  if (await save(number, decision)) {
    history.push({ number, before });
    show(after(number) ?? number);
  }
}

async function undo() {
  const last = history.at(-1);
  if (last && (await save(last.number, last.before))) {
    history.pop();
    show(last.number);
  }
}

function move(step) {
  const number = at + step;
  if (!busy && number >= 0 && number < suspects.length) show(number);
}

function tell(text) {
  $("review").hidden = true;
  $("message").hidden = false;
  $("message").replaceChildren(made("p", { text }));
}

async function done() {
  try {
    await post("done", {});
    tell("All is saved, and the review has ended. Close this page and run the same command as before: it goes on.");
  } catch (error) {
    $("failure").textContent = `Not ended: ${error.message}`;
  }
}

const ACTIONS = {
  leak: () => decide("leak"),
  fine: () => decide("fine"),
  undo,
  back: () => move(-1),
  next: () => move(1),
  done,
};
const KEYS = { l: "leak", f: "fine", u: "undo", k: "back", j: "next", ArrowLeft: "back", ArrowRight: "next" };

function listen() {
  for (const [name, action] of Object.entries(ACTIONS)) $(name).addEventListener("click", action);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const name = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    // A key that is held down moves on, but decides on nothing.
    if (!name || (event.repeat && name !== "back" && name !== "next")) return;
    event.preventDefault();
    ACTIONS[name]();
  });
}

try {
  const answer = await fetch("review.json");
  if (!answer.ok) throw new Error(await answer.text());
  const review = await answer.json();
  ({ suspects, decisions } = review);
  $("run").textContent = visible(review.run);
  if (suspects[0]?.modality === "text") {
    $("question").textContent = "Is it a text of the task?";
    $("rule").textContent = "A leak is the very text of one of the task's, perhaps cut, or with some words changed. "
      + "Another text on the same thing is none.";
  }
  $("overview").replaceChildren(...suspects.map((_, number) => {
    const cell = made("button", { text: String(number + 1) });
    cell.type = "button";
    cell.addEventListener("click", () => busy || show(number));
    return cell;
  }));
  listen();
  $("review").hidden = false;
  $("message").hidden = true;
  show(Math.max(decisions.indexOf(null), 0));
} catch (error) {
  tell(`The review cannot be shown: ${error.message}`);
}
