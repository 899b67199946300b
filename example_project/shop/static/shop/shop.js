"use strict";

// The page works without this file; with it, nothing reloads and the list is live.

const byId = (id) => document.getElementById(id);
const ARROWS = { published: "↑", arrived: "↓", failed: "✕", "rolled back": "↺" };
let newest = null;

function fill(name, texts) {
  const row = byId(name).content.firstElementChild.cloneNode(true);
  for (const [selector, text] of Object.entries(texts)) row.querySelector(selector).textContent = text;
  return row;
}

function orderRow(order) {
  const took = order.seconds === null ? "" : ` in ${Math.max(1, Math.round(order.seconds * 1000))} ms`;
  const row = fill("order", {
    ".number": `#${order.number}`,
    ".what": `${order.quantity} × ${order.product}`,
    ".status": order.status + took,
  });
  row.dataset.status = order.status;
  return row;
}

function activityRow(activity) {
  const row = fill("activity", {
    ".kind": `${ARROWS[activity.kind]} ${activity.kind}`,
    ".destination": activity.destination,
    time: new Date(activity.happened_at).toLocaleTimeString("en-GB", { fractionalSecondDigits: 3 }),
    ".detail": activity.detail,
    ".origin": `${activity.message_id ? `message ${activity.message_id.slice(0, 8)} · ` : ""}process ${activity.process}`,
  });
  row.querySelector("time").dateTime = activity.happened_at;
  row.dataset.kind = activity.kind;
  row.classList.toggle("fresh", newest !== null && activity.id > newest);
  return row;
}

function show(news) {
  byId("orders").replaceChildren(...news.orders.map(orderRow));
  byId("no-orders").hidden = news.orders.length > 0;
  const last = Math.max(0, ...news.activities.map((activity) => activity.id));
  if (last !== newest) {
    byId("activities").replaceChildren(...news.activities.map(activityRow));
    byId("no-activities").hidden = news.activities.length > 0;
    newest = last;
  }
  for (const [product, stock] of Object.entries(news.stock)) {
    document.querySelector(`[data-stock="${product}"]`).textContent = stock;
  }
}

async function refresh() {
  try {
    const response = await fetch(byId("live").dataset.url);
    if (!response.ok) throw new Error(response.status);
    show(await response.json());
    byId("state").textContent = "asks every second";
  } catch {
    byId("state").textContent = "the shop does not answer";
  }
}

async function submit(event) {
  event.preventDefault();
  const form = event.target;
  const button = event.submitter;
  button.disabled = true;
  try {
    const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const id of ["notices", "order-errors"]) byId(id).replaceChildren(...page.getElementById(id).childNodes);
    byId("notices").scrollIntoView({ block: "nearest" });
  } catch {
    byId("state").textContent = "the shop does not answer";
  }
  button.disabled = false;
  button.focus();
  await refresh();
}

show(JSON.parse(byId("news").textContent));
document.addEventListener("submit", submit);
setInterval(() => document.hidden || refresh(), 1000);
