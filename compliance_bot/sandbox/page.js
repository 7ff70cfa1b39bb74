// The chat page. Whatever came over the wire becomes text nodes and a few known elements; never markup.
"use strict";

const WORDS = {
  en: {
    back: "Back to the product",
    empty: "No message yet",
    group: "Group",
    groups: "Groups",
    hint: "Once the robot has sent something, it appears here within two seconds.",
    lost: "The sandbox does not answer. Trying again …",
    messages: "Messages, newest at the bottom",
    newer: "New messages ↓",
    count: (n) => (n === 1 ? "1 message" : `${n} messages`),
    robot: "Robot",
    title: "Group chat",
    today: "Today",
    unseen: (n) => `${n} unread`,
    yesterday: "Yesterday",
  },
  zh: {
    back: "返回产品",
    empty: "暂无消息",
    group: "群聊",
    groups: "群聊列表",
    hint: "机器人发出消息后，两秒内会显示在这里。",
    lost: "沙盒没有响应，正在重试……",
    messages: "消息，最新的在最下方",
    newer: "新消息 ↓",
    count: (n) => `${n} 条消息`,
    robot: "机器人",
    title: "群聊",
    today: "今天",
    unseen: (n) => `${n} 条未读`,
    yesterday: "昨天",
  },
};

// The server read Accept-Language; a browser that sends none still says what it speaks.
const LANGUAGE = document.documentElement.lang || navigator.language || "en";
const SAY = LANGUAGE.toLowerCase().startsWith("zh") ? WORDS.zh : WORDS.en;
const POLL_MS = 1500;
const SHOWN = 300; // bubbles of one group that the page holds

const byId = (id) => document.getElementById(id);
const page = { log: byId("log"), list: byId("messages"), groups: byId("groups"), newer: byId("newer") };
const rooms = new Map(); // key -> {key, messages, total, unseen}
let chosen = null;
let last = 0;

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// ---- Text to nodes -------------------------------------------------------------------------------------

const LINK = String.raw`\[([^\[\]\n]+)\]\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)`;
const BARE = String.raw`https?:\/\/[^\s<>"'\u3000-\u303f\uff00-\uffef]+`;
const FONT = String.raw`<font color="(info|comment|warning)">([\s\S]*?)<\/font>`;
const CODE = "`([^`\\n]+)`";
const BOLD = String.raw`\*\*(?=\S)([\s\S]*?\S)\*\*`;
const PERSON = String.raw`<@([\w.@-]{1,64})>`;
const ITALIC = String.raw`\*(?=[^\s*])([^*\n]*[^\s*])\*`;

// markdown knows colours and @; markdown_v2 has italics instead.
const INLINE = {
  text: [[PERSON, person], [BARE, bare]],
  markdown: [[CODE, code], [FONT, font], [LINK, link], [BOLD, bold], [PERSON, person], [BARE, bare]],
  markdown_v2: [[CODE, code], [LINK, link], [BOLD, bold], [ITALIC, italic], [BARE, bare]],
};

function code(groups) { return element("code", "", groups[1]); }
function bold(groups, kind) { return element("strong", "", ...inline(groups[1], kind)); }
function italic(groups, kind) { return element("em", "", ...inline(groups[1], kind)); }
function font(groups, kind) { return element("span", groups[1], ...inline(groups[2], kind)); }
function person(groups) { return element("span", "person", `@${groups[1]}`); }
function link(groups) { return anchor(groups[2], groups[1]) ?? groups[0]; }

function bare(groups) {
  const address = groups[0].replace(/[.,;:!?)\]}]+$/, ""); // a full stop ends the sentence, not the address
  const made = anchor(address, address);
  return made ? [made, groups[0].slice(address.length)] : groups[0];
}

function anchor(address, text) {
  let target;
  try {
    target = new URL(address);
  } catch {
    return null;
  }
  if (target.protocol !== "http:" && target.protocol !== "https:") return null;
  const made = element("a", "", text);
  made.href = target.href;
  made.target = "_blank";
  made.rel = "noopener noreferrer";
  return made;
}

function inline(text, kind) {
  const nodes = [];
  let rest = text;
  while (rest) {
    let first = null;
    for (const [pattern, make] of INLINE[kind]) {
      const found = new RegExp(pattern).exec(rest);
      if (found && (!first || found.index < first.found.index)) first = { found, make };
    }
    if (!first) break;
    const { found, make } = first;
    nodes.push(rest.slice(0, found.index), ...[make(found, kind)].flat());
    rest = rest.slice(found.index + found[0].length);
  }
  nodes.push(rest);
  return nodes.filter((node) => node !== "");
}

const BLOCKS = [
  ["heading", /^(#{1,6})\s+(.*)$/],
  ["rule", /^\s*(?:-{3,}|\*{3,})\s*$/],
  ["quote", /^>\s?(.*)$/],
  ["ul", /^\s{0,3}[-*+]\s+(.*)$/],
  ["ol", /^\s{0,3}(\d{1,4})\.\s+(.*)$/],
];

const V2_ONLY = new Set(["rule", "ul", "ol"]); // the first Markdown shows them as plain text

function blockOf(line, kind) {
  for (const [name, pattern] of BLOCKS) {
    if (kind === "markdown" && V2_ONLY.has(name)) continue;
    const found = pattern.exec(line);
    if (found) return [name, found];
  }
  return line.trim() ? ["line", [line]] : ["gap", [line]];
}

// A font element may span lines, as in the real client; blocks are lines, so each line gets its own pair.
function closeFontsPerLine(text) {
  return text.replace(new RegExp(FONT, "g"), (_, colour, inner) =>
    inner.split("\n").map((line) => (line.trim() ? `<font color="${colour}">${line}</font>` : line)).join("\n"));
}

function markdown(text, kind) {
  const blocks = [];
  let open = null; // [name, element] that following lines may join
  for (const line of (kind === "markdown" ? closeFontsPerLine(text) : text).split(/\r?\n/)) {
    const [name, found] = blockOf(line, kind);
    const words = () => inline(found[found.length - 1], kind);
    const joins = open && open[0] === name;
    if (name === "line" && open?.[1].matches("ul, ol")) {
      open[1].lastElementChild.append(element("br"), ...words()); // goes on with the point above it
    } else if (name === "line" || name === "quote") {
      if (joins) open[1].append(element("br"), ...words());
      else open = [name, element(name === "line" ? "p" : "blockquote", "", ...words())];
    } else if (name === "ul" || name === "ol") {
      if (!joins) open = [name, element(name)];
      if (name === "ol" && !joins) open[1].start = Number(found[1]);
      open[1].append(element("li", "", ...words()));
    } else if (name === "heading") {
      open = [name, element(`h${Math.min(found[1].length + 2, 5)}`, "", ...words())];
      blocks.push(open[1]);
      continue;
    } else {
      open = [name, element(name === "rule" ? "hr" : "p", name === "rule" ? "" : "gap")];
    }
    if (blocks[blocks.length - 1] !== open[1]) blocks.push(open[1]);
  }
  while (blocks.length && blocks[blocks.length - 1].className === "gap") blocks.pop();
  return blocks;
}

function content(message) {
  if (message.msgtype === "markdown" || message.msgtype === "markdown_v2") {
    return markdown(message.content, message.msgtype);
  }
  const people = (message.mentioned ?? []).map((name) => element("span", "person", ` @${name.replace(/^@/, "")}`));
  return [element("p", "", ...inline(message.content, "text"), ...people)];
}

// ---- Time ----------------------------------------------------------------------------------------------

const clock = (at) => at.toLocaleTimeString(LANGUAGE, { hour: "2-digit", minute: "2-digit", hour12: false });

function day(at) {
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const days = Math.ceil((midnight - at) / 86_400_000);
  if (days <= 0) return SAY.today;
  if (days === 1) return SAY.yesterday;
  return at.toLocaleDateString(LANGUAGE, { year: "numeric", month: "long", day: "numeric" });
}

// ---- Groups and bubbles --------------------------------------------------------------------------------

const dots = (key) => `·····${key.slice(-4)}`; // a key is a secret, here too

// A card's button presses for the first of those who got it; what came of it, the next message tells.
function pressed(message, [key, text]) {
  const button = element("button", "press", text);
  button.type = "button";
  button.addEventListener("click", async () => {
    button.disabled = true;
    const body = JSON.stringify({ msgid: message.msgid, user: message.mentioned[0], key });
    const answer = await fetch("/click", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!answer.ok) button.after(element("span", "problem", ` ${(await answer.json()).error}`));
  });
  return button;
}

function bubble(message) {
  const at = new Date(message.at * 1000);
  const time = element("time", "", clock(at));
  time.dateTime = at.toISOString();
  const face = element("img");
  Object.assign(face, { src: "/icon.svg", alt: "", width: 36, height: 36 });
  const presses = (message.buttons ?? []).map((button) => pressed(message, button));
  const by = element("p", "by", `${SAY.robot} ${dots(message.key)}`, time);
  return element("li", "message", face, element("div", "side", by, element("div", "bubble", ...content(message), ...presses)));
}

function showMessages(messages) {
  for (const message of messages) {
    const label = day(new Date(message.at * 1000));
    if (label !== page.list.dataset.day) page.list.append(element("li", "when", label));
    page.list.dataset.day = label;
    page.list.append(bubble(message));
  }
  while (page.list.querySelectorAll(".message").length > SHOWN) page.list.firstElementChild.remove();
  byId("empty").hidden = rooms.size > 0;
}

function toBottom() {
  page.log.scrollTop = page.log.scrollHeight;
  page.newer.hidden = true;
}

const atBottom = () => page.log.scrollHeight - page.log.scrollTop - page.log.clientHeight < 60;

function choose(key) {
  chosen = key;
  const room = rooms.get(key);
  room.unseen = 0;
  page.log.setAttribute("aria-live", "off"); // a change of room is not news
  page.list.replaceChildren();
  delete page.list.dataset.day;
  showMessages(room.messages);
  byId("title").textContent = `${SAY.group} ${dots(key)}`;
  toBottom();
  showGroups();
  page.groups.querySelector("[aria-current]").scrollIntoView({ block: "nearest", inline: "nearest" });
  requestAnimationFrame(() => page.log.setAttribute("aria-live", "polite"));
}

function groupButton(room) {
  const newest = room.messages[room.messages.length - 1];
  const preview = content(newest).map((block) => block.textContent).find((text) => text.trim()) ?? "";
  const about = element("span", "about", element("span", "name", `${SAY.group} ${dots(room.key)}`));
  about.append(element("span", "last", preview.slice(0, 80)));
  const button = element("button", "", element("span", "face", room.key.slice(-2).toUpperCase()), about);
  button.type = "button";
  if (room.key === chosen) button.setAttribute("aria-current", "true");
  if (room.unseen) {
    const unseen = element("span", "unseen", room.unseen > 99 ? "99+" : String(room.unseen));
    unseen.setAttribute("aria-label", SAY.unseen(room.unseen));
    button.append(unseen);
  }
  button.addEventListener("click", () => choose(room.key));
  return element("li", "", button);
}

function showGroups() {
  const focused = [...page.groups.querySelectorAll("button")].indexOf(document.activeElement);
  page.groups.replaceChildren(...[...rooms.values()].map(groupButton));
  if (focused >= 0) page.groups.querySelectorAll("button")[focused]?.focus();
  page.groups.parentElement.classList.toggle("many", rooms.size > 1);
}

function receive(messages) {
  const stays = atBottom();
  const first = chosen === null;
  for (const message of messages) {
    const room = rooms.get(message.key) ?? { key: message.key, messages: [], unseen: 0 };
    rooms.set(message.key, room);
    room.messages.push(message);
    if (room.messages.length > SHOWN) room.messages.shift();
    if (!first && message.key !== chosen) room.unseen += 1;
    last = message.n;
  }
  if (first) {
    choose(messages[messages.length - 1].key);
    return;
  }
  const mine = messages.filter((message) => message.key === chosen);
  showMessages(mine);
  showGroups();
  if (!mine.length) return;
  if (stays) toBottom();
  else page.newer.hidden = false;
}

// ---- Polling -------------------------------------------------------------------------------------------

function showStatus(lost) {
  const status = byId("status");
  const room = rooms.get(chosen);
  const words = lost ? SAY.lost : room ? SAY.count(room.messages.length) : "";
  status.classList.toggle("lost", lost);
  if (status.textContent !== words) status.textContent = words;
}

async function poll() {
  try {
    const answer = await fetch(`/messages.json?after=${last}&newest=${SHOWN}`, { cache: "no-store" });
    if (!answer.ok) throw new TypeError(`status ${answer.status}`);
    if (Number(answer.headers.get("X-Sandbox-Last")) < last) {
      location.reload(); // the sandbox began anew with other data
      return;
    }
    const messages = await answer.json();
    if (messages.length) receive(messages);
    showStatus(false);
  } catch (problem) {
    if (!(problem instanceof TypeError || problem instanceof SyntaxError)) throw problem;
    showStatus(true);
  }
  setTimeout(poll, POLL_MS);
}

for (const node of document.querySelectorAll("[data-text]")) node.textContent = SAY[node.dataset.text];
for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", SAY[node.dataset.label]);
page.log.setAttribute("role", "log");
page.newer.addEventListener("click", toBottom);
page.log.addEventListener("scroll", () => { if (atBottom()) page.newer.hidden = true; });
poll();
