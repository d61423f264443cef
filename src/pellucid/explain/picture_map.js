// The map of pictures: points on a canvas that can be pointed at, moved, enlarged and walked through by keyboard.
"use strict";
const data = JSON.parse(document.getElementById("map-data").textContent);
const canvas = document.getElementById("map"), pen = canvas.getContext("2d");
const panel = document.getElementById("panel");
const n = data.x.length, hidden = new Set(), cardOf = new Map(data.cards.map((point, card) => [point, card]));
const view = { zoom: 1, x: 0.5, y: 0.5 }; // of the map, whose sides go from 0 to 1; x, y is what stands in the middle
let chosen = -1, pinned = false, onlyWrong = false, drawing = false, drag = null;

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const shown = (i) => !hidden.has(data.c[i]) && (!onlyWrong || data.wrong[i] >= 0);
const box = () => ({ w: canvas.clientWidth, h: canvas.clientHeight, s: Math.min(canvas.clientWidth, canvas.clientHeight) * 0.94 });
function spot(x, y) { // of a position on the map, in pixels of the canvas
  const { w, h, s } = box();
  return [w / 2 + (x / 1e4 - view.x) * s * view.zoom, h / 2 - (y / 1e4 - view.y) * s * view.zoom];
}
const place = (i) => spot(data.x[i], data.y[i]);

const radius = () => (n <= 2000 ? 4.2 : n <= 10000 ? 3 : 2) * Math.min(2.2, Math.sqrt(view.zoom));
const shapes = {
  circle: (x, y, r) => pen.arc(x, y, r, 0, 7),
  square: (x, y, r) => pen.rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r),
  triangle: (x, y, r) => { pen.moveTo(x, y - 1.2 * r); pen.lineTo(x + 1.1 * r, y + 0.8 * r); pen.lineTo(x - 1.1 * r, y + 0.8 * r); },
  diamond: (x, y, r) => { pen.moveTo(x, y - 1.3 * r); pen.lineTo(x + 1.1 * r, y); pen.lineTo(x, y + 1.3 * r); pen.lineTo(x - 1.1 * r, y); },
  plus: (x, y, r) => { pen.rect(x - 1.2 * r, y - 0.45 * r, 2.4 * r, 0.9 * r); pen.rect(x - 0.45 * r, y - 1.2 * r, 0.9 * r, 2.4 * r); },
};

function draw() {
  drawing = false;
  const ratio = window.devicePixelRatio || 1, { w, h } = box();
  canvas.width = Math.round(w * ratio);
  canvas.height = Math.round(h * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const r = radius();
  data.classes.forEach((kind, k) => { // one path a class: fast for tens of thousands of points
    pen.beginPath();
    for (let i = 0; i < n; i++) {
      if (data.c[i] !== k || !shown(i)) continue;
      const [x, y] = place(i);
      if (x < -9 || y < -9 || x > w + 9 || y > h + 9) continue;
      pen.moveTo(x + r, y);
      shapes[kind.shape](x, y, r);
      if (kind.shape !== "circle") pen.closePath();
    }
    pen.globalAlpha = 0.72;
    pen.fillStyle = kind.color;
    pen.fill();
  });
  pen.globalAlpha = 1;
  pen.strokeStyle = ink("--ink");
  pen.lineWidth = n <= 2000 ? 1.2 : 0.9;
  for (let i = 0; i < n; i++) if (data.wrong[i] >= 0 && shown(i)) ring(i, r + 2);
  names();
  if (chosen >= 0) {
    const [x, y] = place(chosen);
    pen.lineWidth = 1;
    for (const other of near(chosen)) {
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(...place(other));
      pen.stroke();
    }
    pen.lineWidth = 3;
    ring(chosen, r + 6);
  }
}
function names() { // of the classes, each in the middle of its pictures
  pen.font = "600 14px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  pen.strokeStyle = ink("--paper");
  pen.fillStyle = ink("--ink");
  pen.lineWidth = 4;
  for (const [k, name, ...middle] of data.names) {
    if (hidden.has(k)) continue;
    const [x, y] = spot(...middle);
    pen.strokeText(name, x, y);
    pen.fillText(name, x, y);
  }
  pen.strokeStyle = ink("--ink");
}
function ring(i, r) {
  pen.beginPath();
  pen.arc(...place(i), r, 0, 7);
  pen.stroke();
}
function redraw() {
  if (!drawing) { drawing = true; requestAnimationFrame(draw); }
}

const near = (i) => (cardOf.has(i) ? data.near[cardOf.get(i)] : []);
function thumbnail(i, side) {
  const card = cardOf.get(i), tile = document.createElement("span");
  tile.className = "tile";
  tile.style.width = tile.style.height = `${side}px`;
  if (card === undefined) {
    tile.textContent = "no picture kept";
    tile.classList.add("none");
    return tile;
  }
  const sheet = Math.floor(card / data.perSheet), at = card % data.perSheet, columns = data.columns, scale = side / data.cell;
  tile.classList.add(`sheet${sheet}`);
  if (data.sharp) tile.classList.add("sharp");
  tile.style.backgroundSize = `${columns * data.cell * scale}px auto`;
  tile.style.backgroundPosition = `${-(at % columns) * side}px ${-Math.floor(at / columns) * side}px`;
  return tile;
}
function text(name, content, style) {
  const element = document.createElement(name);
  element.textContent = content;
  if (style) element.className = style;
  return element;
}
const label = (i) => data.classes[data.c[i]].name;
function tell() {
  panel.replaceChildren();
  if (chosen < 0) {
    panel.append(text("p", "Point at a picture, or walk with the arrow keys.", "faint"));
    return;
  }
  panel.append(thumbnail(chosen, data.sharp ? data.cell * Math.floor(192 / data.cell) : Math.min(192, 2 * data.cell)));
  if (label(chosen)) panel.append(text("p", label(chosen), "name"));
  if (data.wrong[chosen] >= 0) panel.append(text("p", `✗ answered as ${data.answers[data.wrong[chosen]]}`, "wrong"));
  panel.append(text("p", data.paths[chosen], "path"));
  const others = near(chosen);
  if (!others.length) return;
  panel.append(text("p", "Nearest by all numbers of the layer:", "faint"));
  const list = document.createElement("div");
  list.className = "near";
  for (const other of others) {
    const button = document.createElement("button"), same = label(other) && label(other) === label(chosen);
    button.type = "button";
    button.append(thumbnail(other, 64), text("span", label(other) ? `${same ? "✓" : "✗"} ${label(other)}` : data.paths[other]));
    button.title = data.paths[other];
    button.addEventListener("click", () => choose(other, true));
    list.append(button);
  }
  panel.append(list);
}
function choose(i, pin) {
  pinned = pin && i >= 0;
  if (i === chosen) return;
  chosen = i;
  tell();
  redraw();
}

function at(x, y, reach) {
  let best = -1, least = reach * reach;
  for (let i = 0; i < n; i++) {
    if (!shown(i)) continue;
    const [px, py] = place(i), d = (px - x) ** 2 + (py - y) ** 2;
    if (d < least) { least = d; best = i; }
  }
  return best;
}
function walk(dx, dy) { // to the nearest picture that lies that way
  const { w, h } = box();
  const [x, y] = chosen >= 0 ? place(chosen) : [w / 2, h / 2];
  let best = -1, least = Infinity;
  for (let i = 0; i < n; i++) {
    if (i === chosen || !shown(i)) continue;
    const [px, py] = place(i), along = (px - x) * dx + (py - y) * dy, aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
    if (along <= 0.5 || aside > along) continue;
    const d = along + 2 * aside;
    if (d < least) { least = d; best = i; }
  }
  if (best >= 0) { choose(best, true); follow(); }
}
function follow() { // keeps the chosen picture in sight
  const { w, h, s } = box(), [x, y] = place(chosen);
  if (x < 20 || x > w - 20) view.x += (x - w / 2) / (s * view.zoom);
  if (y < 20 || y > h - 20) view.y -= (y - h / 2) / (s * view.zoom);
}
function enlarge(factor, x, y) {
  const { w, h, s } = box(), before = view.zoom;
  view.zoom = Math.min(60, Math.max(0.7, view.zoom * factor));
  const moved = (1 / before - 1 / view.zoom) / s; // what is under the pointer stays there
  view.x += (x - w / 2) * moved;
  view.y -= (y - h / 2) * moved;
  redraw();
}
function middle() {
  const { w, h } = box();
  return chosen >= 0 ? place(chosen) : [w / 2, h / 2];
}
function reset() {
  Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 });
  redraw();
}
function nextWrong(step) {
  const every = [...Array(n).keys()].filter((i) => data.wrong[i] >= 0 && shown(i));
  if (!every.length) return;
  const after = step > 0 ? every.find((i) => i > chosen) : every.findLast((i) => i < chosen);
  choose(after ?? every.at(step > 0 ? 0 : -1), true);
  follow();
  redraw();
}

canvas.addEventListener("pointermove", (event) => {
  if (drag) {
    const { s } = box();
    drag.far ||= Math.hypot(event.offsetX - drag.x, event.offsetY - drag.y) > 4;
    view.x = drag.vx - (event.offsetX - drag.x) / (s * view.zoom);
    view.y = drag.vy + (event.offsetY - drag.y) / (s * view.zoom);
    redraw();
  } else if (!pinned) {
    const i = at(event.offsetX, event.offsetY, 14);
    if (i >= 0) choose(i, false);
  }
});
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.offsetX, y: event.offsetY, vx: view.x, vy: view.y, far: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointerup", (event) => {
  if (drag && !drag.far) choose(at(event.offsetX, event.offsetY, 14), true);
  drag = null;
});
canvas.addEventListener("pointercancel", () => { drag = null; });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  enlarge(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
}, { passive: false });
const keys = {
  ArrowLeft: () => walk(-1, 0), ArrowRight: () => walk(1, 0), ArrowUp: () => walk(0, -1), ArrowDown: () => walk(0, 1),
  "+": () => enlarge(1.5, ...middle()), "=": () => enlarge(1.5, ...middle()), "-": () => enlarge(1 / 1.5, ...middle()),
  0: reset, w: () => nextWrong(1), W: () => nextWrong(-1), Escape: () => choose(-1, false),
};
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
for (const button of document.querySelectorAll("[data-key]")) button.addEventListener("click", () => keys[button.dataset.key]());
for (const field of document.querySelectorAll("[data-class]")) {
  field.addEventListener("change", () => {
    if (field.checked) hidden.delete(Number(field.dataset.class)); else hidden.add(Number(field.dataset.class));
    redraw();
  });
}
const only = document.getElementById("only-wrong");
if (only) only.addEventListener("change", () => { onlyWrong = only.checked; redraw(); });
new ResizeObserver(redraw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
tell();
redraw();
