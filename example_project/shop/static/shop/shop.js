"use strict";

// The page works without this file. With it nothing reloads, and the list is live.

const byId = (id) => document.getElementById(id);
const ARROWS = { published: "↑", arrived: "↓", failed: "✕", "rolled back": "↺" };
let newest = null;

function row(template, texts) {
  const item = byId(template).content.firstElementChild.cloneNode(true);
  for (const [selector, text] of Object.entries(texts)) item.querySelector(selector).textContent = text;
  return item;
}

function orderRow(order) {
  const took = order.seconds === null ? "" : ` in ${Math.max(1, Math.round(order.seconds * 1000))} ms`;
  const item = row("order", {
    ".number": `#${order.number}`,
    ".what": `${order.quantity} × ${order.product}`,
    ".status": order.status + took,
  });
  item.dataset.status = order.status;
  return item;
}

function supplyRow(supply) {
  const waited = supply.waited === null ? "" : `, after ${supply.waited.toFixed(1)} s`;
  const item = row("supply", {
    ".number": `#${supply.number}`,
    ".what": supply.product,
    ".attempts": supply.attempts ? `${supply.attempts} of ${supply.most} attempts${waited}` : "",
    ".status": supply.status,
  });
  item.dataset.status = supply.status;
  return item;
}

function outboxRow(each) {
  const item = row("row", {
    ".destination": each.destination,
    ".attempts": each.attempts ? `${each.attempts} of 3 attempts` : "",
    ".status": each.state,
  });
  item.dataset.state = each.state;
  return item;
}

function activityRow(activity) {
  const item = row("activity", {
    ".kind": `${ARROWS[activity.kind]} ${activity.kind}`,
    ".destination": activity.destination,
    time: new Date(activity.happened_at).toLocaleTimeString("en-GB"),
    ".detail": activity.detail,
    ".process": `pid ${activity.process}`,
  });
  item.querySelector("time").dateTime = activity.happened_at;
  item.title = activity.message_id && `Message ${activity.message_id}`;
  item.dataset.kind = activity.kind;
  item.classList.toggle("fresh", newest !== null && activity.id > newest);
  return item;
}

function show(news) {
  byId("orders").replaceChildren(...news.orders.map(orderRow));
  byId("no-orders").hidden = news.orders.length > 0;
  byId("supplies").replaceChildren(...news.supplies.map(supplyRow));
  byId("no-supplies").hidden = news.supplies.length > 0;
  for (const state of ["waiting", "sent", "dead"]) byId(state).textContent = news.outbox[state];
  byId("rows").replaceChildren(...news.outbox.rows.map(outboxRow));
  const button = byId("switch");
  if (button) button.textContent = news.broker === "away" ? "Bring the broker back" : "Take the broker away";
  document.querySelector(".broker").classList.toggle("away", news.broker === "away");
  for (const [product, stock] of Object.entries(news.stock)) {
    document.querySelector(`[data-stock="${product}"]`).textContent = stock;
  }
  const last = Math.max(0, ...news.activities.map((activity) => activity.id));
  if (last === newest) return;
  byId("activities").replaceChildren(...news.activities.map(activityRow));
  byId("no-activities").hidden = news.activities.length > 0;
  newest = last;
}

function tell(state) {
  const place = byId("state");
  if (place.textContent !== state) place.textContent = state;
  place.classList.toggle("lost", state !== "up to date");
}

async function refresh() {
  try {
    const response = await fetch(byId("live").dataset.url);
    if (!response.ok) throw new Error(response.status);
    show(await response.json());
    tell("up to date");
  } catch {
    tell("the shop does not answer");
  }
}

async function submit(event) {
  event.preventDefault();
  const form = event.target;
  const button = event.submitter;
  const notices = byId("notices");
  button.disabled = true;
  notices.replaceChildren();
  form.after(notices);
  try {
    const response = await fetch(form.action, { method: "POST", body: new FormData(form, button) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const id of ["notices", "order-errors"]) byId(id).replaceChildren(...page.getElementById(id).children);
  } catch {
    tell("the shop does not answer");
  }
  button.disabled = false;
  button.focus({ preventScroll: true });
  await refresh();
}

show(JSON.parse(byId("news").textContent));
document.addEventListener("submit", submit);
setInterval(() => document.hidden || refresh(), 1000);
