// A classifier in the browser. The pixels that the model gets are those that Tutelage decodes in Python: upright,
// on white, in the file's own colors; cutting to the center, resizing and normalizing are inside of the model.

import * as ort from "./ort.wasm.min.mjs";

const SHOWN = 5; // classes with bars
const MOST = 50e6; // pixels
const STRIP = 4e6; // pixels of the canvas that pictures are read through; phones allow about 16 million

// One thread needs no special headers from the server, so that any will do.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;

export async function load() {
  const [about, session] = await Promise.all([
    fetch(new URL("about.json", import.meta.url)).then((answer) => {
      if (!answer.ok) throw new Error(`about.json: the server says ${answer.status}`);
      return answer.json();
    }),
    ort.InferenceSession.create(new URL("model.onnx", import.meta.url).href, { executionProviders: ["wasm"] }),
  ]);
  // The first run also sets things up, which should not count as the model's time.
  await session.run({ images: new ort.Tensor("uint8", new Uint8Array(3), [1, 1, 1, 3]) });
  return { about, session };
}

// A blob's picture, upright and without its color profile applied, as Tutelage reads it.
export function decode(blob) {
  return createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
}

// RGB bytes of the middle of a bitmap, { data, height, width }: all that the model can look at. The longer side is
// cut by an even number of pixels, so that the model's own center stays where it is.
export function pixels(bitmap) {
  if (bitmap.width * bitmap.height > MOST) {
    throw new Error(`the picture has more than ${MOST / 1e6} million pixels; make it smaller first`);
  }
  const short = Math.min(bitmap.width, bitmap.height);
  const width = short + ((bitmap.width - short) % 2);
  const height = short + ((bitmap.height - short) % 2);
  const left = (bitmap.width - width) / 2;
  const top = (bitmap.height - height) / 2;
  const data = new Uint8Array(height * width * 3);
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP / width)));
  const canvas = new OffscreenCanvas(width, rows);
  // Read often: kept in memory, where compositing rounds exactly; a graphics card need not.
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  for (let row = 0, at = 0; row < height; row += rows) {
    const count = Math.min(rows, height - row);
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, width, count);
    context.drawImage(bitmap, left, top + row, width, count, 0, 0, width, count);
    const rgba = context.getImageData(0, 0, width, count).data;
    for (let index = 0; index < rgba.length; index += 4) {
      data[at++] = rgba[index];
      data[at++] = rgba[index + 1];
      data[at++] = rgba[index + 2];
    }
  }
  return { data, height, width };
}

// Probabilities of all classes, and the milliseconds that the model took.
export async function classify(session, { data, height, width }) {
  const started = performance.now();
  const { logits } = await session.run({ images: new ort.Tensor("uint8", data, [1, height, width, 3]) });
  const milliseconds = performance.now() - started;
  const values = Array.from(logits.data);
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = values.map((value) => Math.exp(value - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return { probabilities: powers.map((value) => value / total), milliseconds };
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

async function start() {
  const part = (id) => document.getElementById(id);
  const say = (text, wrong = false) => {
    part("status").textContent = text;
    part("status").classList.toggle("wrong", wrong);
  };
  const explain = (error) => say(error instanceof Error ? error.message : String(error), true);
  let model = null;
  let stream = null;
  let turn = 0; // of several pictures at once, the last one is shown

  const ready = load().then((loaded) => {
    model = loaded;
    document.title = loaded.about.title;
    part("title").textContent = loaded.about.title;
    const names = loaded.about.classes;
    const shown = names.slice(0, 12).join(", ");
    const rest = names.length > 12 ? `, and ${names.length - 12} more` : "";
    part("about").textContent = `Tells ${names.length} classes apart: ${shown}${rest}.`;
    say("");
  });
  ready.catch((error) => {
    const local = location.protocol === "file:";
    explain(local ? "Browsers load no model from a file. Serve this folder: python -m http.server -d web" : error);
  });

  async function show(makeBitmap) {
    const mine = ++turn;
    try {
      part("answer").hidden = true;
      say(model ? "Looking…" : "Loading the model…");
      const bitmap = await makeBitmap();
      if (mine !== turn) return;
      draw(bitmap);
      await ready;
      const found = await classify(model.session, pixels(bitmap));
      bitmap.close();
      if (mine !== turn) return;
      list(found);
      say("");
      // For pages that embed this one, and for tests.
      const detail = { classes: model.about.classes, ...found };
      document.dispatchEvent(new CustomEvent("tutelage:answer", { detail }));
    } catch (error) {
      if (mine === turn) explain(error);
      document.dispatchEvent(new CustomEvent("tutelage:failure", { detail: String(error) }));
    }
  }

  function draw(bitmap) {
    const canvas = part("picture");
    const scale = Math.min(1, 1600 / Math.max(bitmap.width, bitmap.height));
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    canvas.classList.toggle("small", canvas.width < 200 && canvas.height < 200);
    const context = canvas.getContext("2d");
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    canvas.hidden = false;
    part("hint").hidden = true;
  }

  function list({ probabilities, milliseconds }) {
    const names = model.about.classes;
    const order = probabilities.map((_, row) => row).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    part("bars").replaceChildren(...order.slice(0, SHOWN).map((row) => bar(names[row], probabilities[row])));
    const time = milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds);
    part("time").textContent = `Found in ${time} ms on this machine.`;
    part("spoken").textContent = `${names[order[0]]}, ${percent(probabilities[order[0]])}`;
    part("picture").setAttribute("aria-label", `The picture, taken for ${names[order[0]]}`);
    part("answer").hidden = false;
  }

  function bar(name, probability) {
    const [item, label, share, meter] = ["li", "span", "span", "meter"].map((tag) => document.createElement(tag));
    label.textContent = name;
    share.textContent = percent(probability);
    share.className = "share";
    meter.value = probability;
    meter.setAttribute("aria-hidden", "true");
    item.append(label, share, meter);
    return item;
  }

  function take(files) {
    const file = Array.from(files).find((each) => each.type === "" || each.type.startsWith("image/"));
    if (!file) return say("That is no picture.", true);
    return show(() =>
      decode(file).catch(() => {
        throw new Error(`${file.name || "The picture"}: this browser cannot read it; try PNG, JPEG or WebP.`);
      }),
    );
  }

  for (const id of ["file", "capture"]) {
    part(id).addEventListener("change", (event) => {
      if (event.target.files.length) take(event.target.files);
    });
    // So that the same picture can be chosen again.
    part(id).addEventListener("click", (event) => (event.target.value = ""));
  }
  const stage = part("stage");
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      stage.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => event.relatedTarget || stage.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files);
  });

  function live(on) {
    for (const id of ["video", "shoot", "stop"]) part(id).hidden = !on;
    for (const id of ["camera", "picture", "hint"]) part(id).hidden = on;
    document.querySelector("label[for=file]").hidden = on;
    if (!on) {
      part("picture").hidden = part("answer").hidden;
      part("hint").hidden = !part("answer").hidden;
      stream?.getTracks().forEach((track) => track.stop());
      stream = null;
    }
  }
  part("camera").addEventListener("click", async () => {
    // Without https there is no camera for pages, but a phone's own camera gives a file.
    if (!navigator.mediaDevices?.getUserMedia) return part("capture").click();
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      part("video").srcObject = stream;
      await part("video").play();
      live(true);
      part("shoot").focus();
    } catch (error) {
      explain(`The camera cannot be used (${error.message}).`);
    }
  });
  part("shoot").addEventListener("click", async () => {
    const bitmap = await createImageBitmap(part("video"));
    live(false);
    part("camera").focus();
    show(async () => bitmap);
  });
  part("stop").addEventListener("click", () => {
    live(false);
    part("camera").focus();
  });
}

if (document.querySelector("[data-app]")) start();
