// The live page in a real browser, showing a real relay.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { chromium } from "playwright-core";

import { Relay, Script, distinct, samples, until } from "./relay.js";

const SCREENSHOTS = process.env.SWITCHBOARD_SCREENSHOTS;
const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 360, height: 740 };
const CLOSED_BY_RELAY = 1001;

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.SWITCHBOARD_CHROMIUM,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ],
  });
});
after(() => browser.close());

/** A test with a page. It fails at any error, forbidden request or invalid number. */
function onPage(name, run, { expected = /^$/, ...options } = {}) {
  test(name, { timeout: 90_000 }, async t => {
    const context = await browser.newContext({ viewport: DESKTOP, colorScheme: "light", ...options });
    const wrong = [];
    const origins = new Set();
    context.on("request", request => origins.add(new URL(request.url()).origin));
    await context.exposeFunction("report", text => wrong.push(text));
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", event => window.report(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
      // Also text that is visible only for a moment.
      const look = () => {
        // But names, which clients choose.
        const parts = document.querySelectorAll("header, main > :not(#admin)");
        const text = [...parts].map(part => part.innerText).join("\n");
        const none = text.match(/.*(?:[-−]\s?\d|NaN|undefined|null|Infinity|\[object).*/);
        if (none) window.report(`shown: ${none[0]}`);
        for (const trace of document.querySelectorAll("[data-series]")) {
          if (/NaN|undefined|Infinity/.test(trace.getAttribute("d"))) window.report(`plotted: ${trace.getAttribute("d")}`);
        }
      };
      new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true, attributeFilter: ["d"] });
    });
    const page = await context.newPage();
    page.on("console", message => {
      if (["error", "warning"].includes(message.type()) && !expected.test(message.text())) wrong.push(`console: ${message.text()}`);
    });
    page.on("pageerror", error => wrong.push(`exception: ${error}`));
    const ends = [() => context.close()];
    const started = async thing => {
      ends.push(() => thing.stop());
      return thing;
    };
    try {
      await run({
        page,
        relay: async (...flags) => started(await Relay.start(flags)),
        script: async relay => started(await Script.start(relay)),
      });
      assert.deepEqual(wrong, []);
      const own = new URL(page.url()).origin;
      assert.deepEqual([...origins], [own], "only the relay is asked for anything");
    } finally {
      for (const end of ends.reverse()) await end();
    }
  });
}

const isLive = page => page.locator("#state").filter({ hasText: "Live" }).waitFor({ timeout: 15_000 });
const stateOf = page => page.locator("#state").textContent();
const becomes = (page, state) => until(`the state ${state}`, () => stateOf(page), it => it === state, 25_000);

/** The texts of the tiles: {"To binaries": ["12.3 k frames/s", "3.4 MiB/s"]}. */
const tiles = page => page.$$eval(".tile", all => Object.fromEntries(all.map(tile => [
  tile.querySelector("h2").textContent,
  [...tile.querySelectorAll("p, small")].map(it => it.textContent),
])));
/** The rows of the tables: {"Rate limited HTTP 429": [in five minutes, in total]}. */
const rows = page => page.$$eval("tbody tr", all => Object.fromEntries(all.map(row => [
  row.querySelector("th").textContent.trim(),
  [...row.querySelectorAll("td")].map(it => Number(it.textContent.trim().replaceAll(",", ""))),
])));
/** The points of each trace, in pieces between gaps. */
const traces = page => page.$$eval("[data-series]", all => Object.fromEntries(all.map(trace => [
  trace.dataset.series,
  trace.getAttribute("d").split("M").slice(1).map(piece => piece.replace("h0", "").split("L").map(point => point.split(" ").map(Number))),
])));
const legend = (page, id) => page.$$eval(`#${id} li`, all => all.map(it => it.textContent.replace(/\s+/g, " ").trim()));
const shoot = (page, name) => page.screenshot({ path: `${SCREENSHOTS}/${name}.png`, fullPage: true });

/** Texts that overlap, leave their card or the screen, or are hard to read. */
const flaws = page => page.evaluate(() => {
  const flaws = [];
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || parent.closest("script, .unseen")) continue;
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    for (const box of range.getClientRects()) if (box.width) texts.push({ text: walker.currentNode.data.trim(), box, parent });
  }
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2.5;
  texts.forEach((one, index) => {
    for (const other of texts.slice(index + 1)) if (overlap(one.box, other.box)) flaws.push(`"${one.text}" overlaps "${other.text}"`);
    const card = (one.parent.closest("main > *") ?? document.body).getBoundingClientRect();
    if (one.box.left < card.left || one.box.right > card.right || one.box.bottom > card.bottom + 1) flaws.push(`"${one.text}" leaves its card`);
  });
  if (document.documentElement.scrollWidth > innerWidth) flaws.push("the page is wider than the screen");

  const parse = colour => colour.match(/[\d.]+/g).map(Number);
  const light = colour => {
    const [r, g, b] = colour.map(it => it / 255).map(it => it <= 0.03928 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  for (const { text, parent } of texts) {
    let below = parent;
    while (below.parentElement && /rgba\(.*, 0\)/.test(getComputedStyle(below).backgroundColor)) below = below.parentElement;
    const style = getComputedStyle(parent);
    const of = parent instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [of, getComputedStyle(below).backgroundColor].map(it => light(parse(it)));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) flaws.push(`"${text}" has a contrast of ${contrast.toFixed(1)}`);
  }
  return flaws;
});

const numberIn = text => Number(text.match(/[\d.,]+/)[0].replaceAll(",", ""));
const sumOf = (series, name, label = "") => {
  const matching = Object.keys(series).filter(key => key.split("{")[0] === name && key.includes(label));
  assert.notEqual(matching.length, 0, `${name} ${label}`);
  return matching.reduce((sum, key) => sum + series[key], 0);
};

// The names on the page, and the series of /metrics.
const GAUGES = {
  "Binaries": ["connected_binaries"],
  "Phones": ["connected_phones"],
  "In grace": ["binaries_in_grace"],
  "Connections": ["connections"],
};
const COUNTERS = {
  "Rate limited HTTP 429": ["upgrades_total", 'outcome="rate_limited"'],
  "Relay full HTTP 503": ["upgrades_total", 'outcome="over_capacity"'],
  "Bad request HTTP 400, 405, 426": ["upgrades_total", 'outcome="bad_request"'],
  "Server-id claimed close 4409": ["refusals_total", 'kind="server_id_claimed"'],
  "No such server close 4404": ["refusals_total", 'kind="no_server"'],
  "Too many phones close 4429": ["refusals_total", 'kind="too_many_phones"'],
  "Reclaims back within the grace": ["reclaims_total"],
  "Grace expiries not back": ["grace_expiries_total"],
  "Take-overs from silent binaries": ["takeovers_total"],
  "Heartbeat time-outs": ["heartbeat_timeouts_total"],
  "Outbox overflows slow phones": ["outbox_overflows_total"],
  "Write failures": ["write_failures_total"],
  "Frames undelivered their receiver gone": ["frames_undelivered_total"],
  "Envelopes dropped from binaries": ["envelopes_dropped_total"],
  "Messages rejected their sender closed": ["messages_rejected_total"],
  "Log lines dropped stderr full": ["log_lines_dropped_total"],
};

/** The page shows every series of /metrics, with its value. */
async function agrees(page, relay) {
  const compared = async () => {
    const series = await relay.series();
    const told = {};
    for (const [name, of] of Object.entries({ ...GAUGES, ...COUNTERS })) told[name] = sumOf(series, ...of);
    told.Upgrades = sumOf(series, "upgrades_total", 'outcome="accepted"');
    const tile = await tiles(page);
    const row = await rows(page);
    const shown = {};
    for (const name of Object.keys(GAUGES)) shown[name] = numberIn(tile[name][0]);
    for (const name of Object.keys(COUNTERS)) shown[name] = row[name]?.[1];
    // The relay has run for less than five minutes.
    shown.Upgrades = numberIn(tile.Upgrades[1]);
    for (const [name, [recent, total]] of Object.entries(row)) if (recent !== total) shown[name] = `${recent} of ${total}`;
    return { told, shown };
  };
  const { told } = await until("page and metrics agree", compared, ({ told, shown }) => {
    try {
      assert.deepEqual(shown, told);
      return true;
    } catch {
      return false;
    }
  });
  return told;
}

onPage("after all kinds of trouble, the numbers match the metrics", async ({ page, relay: start }) => {
  const relay = await start(
    "--max-phones", "2", "--max-connections", "6", "--grace", "2s", "--probe-timeout", "300ms", "--heartbeat-interval", "1s",
    "--heartbeat-timeout", "1s", "--outbox", "65536", "--rate-burst", "60", "--rate-interval", "1h", "--write-timeout", "30s",
  );
  await page.goto(relay.url);
  await isLive(page);
  assert.deepEqual(Object.values(await agrees(page, relay)).filter(it => it !== 0), [], "nothing has happened yet");
  assert.equal((await tiles(page)).Connections[1], "of 6");
  await until("version and age", () => page.locator("#version").textContent(), text => /^version \d+\.\d+\.\d+\S*, up \d+ s ·$/.test(text));

  const binary = await relay.binary("a");
  const registered = count => until(`${count} phones`, () => relay.series(), series => series.connected_phones === count);
  const phones = [await relay.phone("a"), await relay.phone("a")];
  await registered(2);
  assert.equal(await (await relay.phone("a")).closed, 4429);
  for (const expected of [4404, 4404]) assert.equal(await (await relay.phone("nobody")).closed, expected);
  for (let refused = 0; refused < 3; refused += 1) assert.equal(await (await relay.binary("a")).closed, 4409);
  for (let refused = 0; refused < 4; refused += 1) assert.equal(await relay.refused(), 400);
  assert.equal((await agrees(page, relay)).Phones, 2);

  // Full: six connections, then two more.
  const others = [];
  for (const serverId of "bcd") others.push(await relay.binary(serverId));
  for (const expected of [503, 503]) assert.equal(await relay.refused(), expected);
  assert.equal((await agrees(page, relay)).Connections, 6);
  await shoot(page, "relay-full");

  // One binary comes back in its grace, two do not.
  for (const other of others) other.close();
  const graces = await until("a grace", () => tiles(page), shown => numberIn(shown["In grace"][0]) === 3);
  assert.equal(graces.Binaries[0], "1", "who is away is not connected");
  const back = await relay.binary("b");
  await until("no grace", () => tiles(page), shown => numberIn(shown["In grace"][0]) === 0);
  back.terminate();

  // Silent binaries: one is taken over, and one fails the heartbeat.
  const silent = await relay.binary("e", { autoPong: false });
  await relay.binary("e");
  await silent.closed;
  const mute = await relay.binary("f", { autoPong: false });
  assert.equal(await mute.closed, 1011);

  // A phone that does not read, and one that violates the protocol.
  phones[0].send('"who am I"');
  await until("a frame", () => binary.frames, frames => frames.length > 0);
  const { conn_id: slow } = JSON.parse(binary.frames.shift());
  phones[0]._socket.pause();
  const large = JSON.stringify({ conn_id: slow, frame: "x".repeat(50_000) });
  await until("an overflow", async () => {
    for (let frame = 0; frame < 100; frame += 1) binary.send(large);
    return (await relay.series()).outbox_overflows_total;
  }, count => count === 1, 30_000);
  phones[0].terminate();
  binary.send("no envelope");
  phones[1].send("no JSON");
  assert.equal(await phones[1].closed, 1000);
  for (let status = 400; status !== 429;) status = await relay.refused();

  const told = await agrees(page, relay);
  // Whether a write fails depends on the system. No log line is dropped, because the log is read.
  const optional = ["Write failures", "Log lines dropped stderr full"];
  assert.deepEqual(Object.keys(COUNTERS).filter(name => !told[name] && !optional.includes(name)), [], "all of it happened");
  const some = await page.$$eval("tr.some th", all => all.length);
  const red = await page.$$eval("tr.some", all => {
    const colour = row => getComputedStyle(row).color;
    const plain = getComputedStyle(document.body).color;
    return all.filter(row => colour(row) !== plain).map(row => row.querySelector("th").textContent.trim());
  });
  const harmless = ["No such server close 4404", "Reclaims back within the grace", "Grace expiries not back"];
  assert.deepEqual(harmless.filter(name => red.includes(name)), [], "red means trouble");
  assert.equal(red.length, some - harmless.length, "all else is trouble");
  assert.match(await page.locator("#instance").textContent(), new RegExp(`:${relay.address.split(":").at(-1)}$`));
  assert.equal(some, Object.keys(COUNTERS).length - optional.filter(name => !told[name]).length, "what happened lately stands out");
  assert.deepEqual(await flaws(page), []);
  await shoot(page, "trouble");
});

onPage("rates and plots follow the traffic", async ({ page, relay: start }) => {
  const relay = await start();
  const binary = await relay.binary("a");
  const phone = await relay.phone("a");
  phone.send('"hello"');
  await until("a frame", () => binary.frames, frames => frames.length > 0);
  const { conn_id: connId } = JSON.parse(binary.frames[0]);
  await page.goto(relay.url);
  await isLive(page);
  await until("some quiet seconds", () => traces(page), all => all["to phones"][0]?.length >= 3);
  // Each second, forty frames of 1 KiB to the phone, and ten to the binary.
  const [down, up] = [JSON.stringify({ conn_id: connId, frame: "x".repeat(1022) }), JSON.stringify("x".repeat(100))];
  const begun = performance.now();
  let ticks = 0;
  const traffic = setInterval(() => {
    for (; ticks * 25 < performance.now() - begun; ticks += 1) {
      binary.send(down);
      if (ticks % 4 === 0) phone.send(up);
    }
  }, 25);
  try {
    await sleep(8_000);
    const shown = await tiles(page);
    const near = (text, wanted, unit) => {
      assert.match(text, unit);
      assert.ok(Math.abs(numberIn(text) - wanted) < wanted * 0.35, `${text}, not about ${wanted}`);
    };
    near(shown["To phones"][0], 40, /^\S+ frames\/s$/);
    near(shown["To phones"][1], 40, /^\S+ KiB\/s$/);
    near(shown["To binaries"][0], 10, /^\S+ frames\/s$/);
    assert.match(shown["To binaries"][1], /^\S+ (B|KiB)\/s$/);
    const [toBinaries, toPhones] = await legend(page, "frames");
    near(toPhones.replace(/^to phones /, ""), 40, / max /);
    near(toBinaries.replace(/^to binaries /, ""), 10, / max /);

    const points = await traces(page);
    assert.deepEqual(Object.keys(points).sort(), ["HTTP 4xx, 503", "binaries", "close 44xx", "phones", "server-ids", "to binaries", "to phones"]);
    for (const [name, pieces] of Object.entries(points)) {
      assert.equal(pieces.length, 1, `${name} has no gap`);
      assert.ok(pieces[0].length >= 7, `${name} has ${pieces[0].length} points`);
      const xs = pieces[0].map(([x]) => x);
      assert.deepEqual(xs, [...xs].sort((a, b) => a - b), "time goes to the right");
    }
    const highest = name => Math.min(...points[name][0].map(([, y]) => y));
    const lowest = name => Math.max(...points[name][0].map(([, y]) => y));
    assert.ok(highest("to phones") < highest("to binaries") - 20, "more is higher");
    assert.ok(lowest("to phones") - highest("to phones") > 40, "from nothing to forty");

    // The newest sample is at the right end.
    const { width, height } = await page.locator("#frames > svg").boundingBox();
    await page.locator("#frames > svg").hover({ position: { x: width - 8, y: height / 2 } });
    await until("a time", () => page.locator("#frames time").textContent(), text => /^\d\d:\d\d:\d\d UTC$/.test(text));
    assert.match(await page.locator("#connected time").textContent(), /UTC$/, "all plots show the same time");
    near((await legend(page, "frames"))[1].replace(/^to phones /, ""), 40, / max /);
    await page.locator("#frames > svg").hover({ position: { x: 60, y: height / 2 } });
    await until("no value", () => legend(page, "frames"), ([first]) => first.startsWith("to binaries – max"));
    await page.mouse.move(5, 5);
    await until("no time", () => page.locator("#frames time").textContent(), text => text === "now");
    await shoot(page, "traffic");
  } finally {
    clearInterval(traffic);
  }
});

onPage("a stopped relay is shown as lost, and a restarted one as live", async ({ page, relay: start }) => {
  const first = await start();
  const binary = await first.binary("a");
  for (let refused = 0; refused < 5; refused += 1) await first.refused();
  await page.goto(first.url);
  await isLive(page);
  await until("refusals", () => rows(page), all => all["Bad request HTTP 400, 405, 426"][1] === 5);
  assert.equal(await page.locator("#old").isVisible(), false);

  await first.stop();
  assert.equal(await binary.closed, CLOSED_BY_RELAY);
  await becomes(page, "Reconnecting");
  assert.match(await page.locator("#old").textContent(), /^The connection to the relay is lost\. No data for \d+ s\. Showing data from \d\d:\d\d:\d\d UTC\.$/);
  assert.equal(await page.locator("#old").isVisible(), true);
  assert.match(await page.title(), /^Reconnecting – \S+:\d+ – switchboard-relay$/);
  assert.equal((await rows(page))["Bad request HTTP 400, 405, 426"][1], 5, "the last that was known stays");
  await until("no now", () => page.locator("#frames time").textContent(), text => text.endsWith("UTC"));
  assert.deepEqual(await flaws(page), []);
  await shoot(page, "reconnecting");

  await start("--listen", first.address, "--metrics-listen", first.metrics);
  await becomes(page, "Live");
  assert.equal(await page.locator("#old").isVisible(), false);
  assert.match(await page.title(), /^\S+:\d+ – switchboard-relay$/);
  await until("the counts of the new relay", () => rows(page), all => all["Bad request HTTP 400, 405, 426"].every(count => count === 0), 5_000);
  await until("the age of the new relay", () => page.locator("#version").textContent(), text => /up [0-5] s/.test(text));
}, { expected: /Failed to load resource: net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING)/ });

onPage("a silent relay is stale, and its silence is a gap", async ({ page, relay: start }) => {
  const relay = await start();
  await page.goto(relay.url);
  await isLive(page);
  await until("points", () => traces(page), all => all.phones[0].length >= 3);
  relay.signal("SIGSTOP");
  await becomes(page, "Stale");
  assert.match(await page.locator("#old").textContent(), /^The connection is open, but the relay sends nothing\. No data for [3-6] s/);
  await shoot(page, "stale");
  relay.signal("SIGCONT");
  await becomes(page, "Live");
  const pieces = await until("a gap", () => traces(page), all => all["to phones"].length === 2 && all["to phones"][1].length > 1);
  assert.equal(pieces.phones.length, 2);
  const [before, after] = pieces.phones;
  assert.ok(after[0][0] - before.at(-1)[0] > 4, "as wide as it was long");
});

// Busy for five minutes, in trouble for half a minute. The relay restarted, and was unreachable for a while.
function busy() {
  const wave = (second, of, by) => Math.round(of + by * Math.sin(second / 23) + by / 3 * Math.sin(second / 5));
  const storm = second => second > 200 && second < 230;
  const all = samples(300, Date.now(), second => ({
    binaries: wave(second, 812, 30),
    phones: wave(second, 2480, 300) - (storm(second) ? 900 : 0),
    in_grace: storm(second) ? 41 : second % 50 < 8 ? 2 : 0,
    connections: 3301,
    max_connections: 10_000,
  }), second => ({
    frames_to_binaries: second === 299 ? 12_345 : wave(second, 12_300, 3000),
    frames_to_phones: second === 299 ? 987 : wave(second, 18_200, 2500) - (storm(second) ? 9000 : 0),
    bytes_to_binaries: second === 299 ? 3.5 * 1024 ** 2 : 1_000_000,
    bytes_to_phones: second === 299 ? 2 * 1024 ** 3 : 9_400_000,
    upgrades: second > 228 && second < 240 ? 80 : second % 3,
    rate_limited: second > 228 && second < 236 ? 25 : 0,
    no_server: second > 220 && second < 240 ? 9 : 0,
    reclaims: second === 228 ? 38 : 0,
    grace_expiries: second === 231 ? 3 : 0,
    heartbeat_timeouts: second === 198 ? 41 : 0,
  }));
  for (const [index, sample] of all.entries()) {
    if (index < 60) continue;
    sample.frames_to_phones -= all[59].frames_to_phones + 1;
    sample.upgrades -= all[59].upgrades;
  }
  all.splice(90, 6);
  return all;
}

for (const [name, options] of Object.entries({
  "desktop": {},
  "desktop-dark": { colorScheme: "dark" },
  "phone": { viewport: PHONE, hasTouch: true, isMobile: true },
  "phone-dark": { viewport: PHONE, hasTouch: true, isMobile: true, colorScheme: "dark" },
})) {
  onPage(`five busy minutes are readable: ${name}`, async ({ page, relay: start, script: play }) => {
    const script = await play(await start());
    script.kept = busy();
    await page.goto(script.url);
    await isLive(page);
    await until("an uptime", () => page.locator("#version").textContent(), text => text === "version 9.8.7, up 1 d 2 h ·");
    assert.deepEqual(await tiles(page), {
      "Binaries": ["824", "connected"],
      "Phones": ["2,595", "connected"],
      "In grace": ["0", "binaries awaited"],
      "Connections": ["3,301", "of 10,000"],
      "To binaries": ["12.3 k frames/s", "3.50 MiB/s"],
      "To phones": ["987 frames/s", "2.00 GiB/s"],
      "Upgrades": ["2 /s", "1,168 in 5 min"],
      "Refusals": ["0 /s", "346 in 5 min"],
    });
    const dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).every(it => it < 50));
    assert.equal(dark, name.endsWith("dark"));
    assert.deepEqual(await flaws(page), []);

    const points = await traces(page);
    const svg = await page.locator("#frames > svg").boundingBox();
    for (const [series, pieces] of Object.entries(points)) {
      // A counter that fell leaves a gap only in its own rate.
      assert.equal(pieces.length, series === "to phones" ? 3 : 2, series);
      for (const [x, y] of pieces.flat()) assert.ok(x >= 0 && x <= svg.width && y >= 0 && y <= svg.height - 19, `${series}: ${x} ${y}`);
      const width = pieces.at(-1).at(-1)[0] - pieces[0][0][0];
      assert.ok(width > svg.width * 0.8, `${series} fills the plot`);
    }
    const gap = points.phones[1][0][0] - points.phones[0].at(-1)[0];
    assert.ok(Math.abs(gap / (svg.width - 46) - 7 / 300) < 0.005, "the gap is as wide as it was long");
    assert.match((await legend(page, "connected"))[1], /^phones 2,595 max 2,\d{3}$/);
    assert.match((await legend(page, "frames"))[0], /^to binaries 12\.3 k max 16\.\d k$/);
    const axis = await page.$$eval("#frames .grid text", all => all.map(it => it.textContent));
    for (const label of ["0", "10 k", "20 k"]) assert.ok(axis.includes(label), axis.join());
    assert.ok(axis.filter(it => /^\d\d:\d\d$/.test(it)).length >= 4, axis.join());
    await shoot(page, name);
    if (name === "desktop-dark") {
      await page.locator("#frames > svg").hover({ position: { x: svg.width * 0.75, y: 60 } });
      await until("a time", () => page.locator("#frames time").textContent(), text => text.endsWith("UTC"));
      assert.deepEqual(await flaws(page), []);
      await shoot(page, "hover");
    }
  }, options);
}

onPage("each number is shown in its place", async ({ page, relay: start, script: play }) => {
  const script = await play(await start());
  // Each counter has a different value, and a different increase.
  const [first, second] = distinct(Date.now());
  script.kept = [first, second];
  await page.goto(script.url);
  await isLive(page);
  const keys = [
    "rate_limited", "over_capacity", "bad_requests", "server_id_claimed", "no_server", "too_many_phones", "reclaims", "grace_expiries",
    "takeovers", "heartbeat_timeouts", "outbox_overflows", "write_failures", "frames_undelivered", "envelopes_dropped",
    "messages_rejected", "log_lines_dropped",
  ];
  const shown = await rows(page);
  assert.deepEqual(Object.keys(shown), Object.keys(COUNTERS));
  Object.keys(COUNTERS).forEach((name, index) => {
    const key = keys[index];
    assert.deepEqual(shown[name], [second[key] - first[key], second[key]], `${name}: ${key}`);
  });
});

onPage("many samples cause one redraw, and none is kept too long", async ({ page, relay: start, script: play }) => {
  const script = await play(await start());
  await page.addInitScript(() => {
    window.waiting = [];
    window.requestAnimationFrame = draw => window.waiting.push(draw);
  });
  const end = Date.now();
  const all = samples(1000, end + 1000_000);
  script.kept = all.slice(0, 10);
  await page.goto(script.url);
  await isLive(page);
  for (const sample of all.slice(10)) script.tell("sample", sample);
  await page.waitForFunction(time => samples.at(-1)?.time === time, all.at(-1).time);
  const drawings = await page.evaluate(() => window.waiting.length);
  assert.equal(drawings, 1);
  await page.evaluate(() => window.waiting.splice(0).forEach(draw => draw()));
  assert.deepEqual((await traces(page)).phones.map(piece => piece.length), [300]);
});

onPage("a clock that is set back does not reverse the time axis", async ({ page, relay: start, script: play }) => {
  const script = await play(await start());
  const end = Date.now();
  script.kept = samples(20, end);
  await page.goto(script.url);
  await isLive(page);
  for (const sample of samples(5, end - 6000)) script.tell("sample", sample);
  await until("the points before it", () => traces(page), all => all.phones.flat().length === 14);
  const xs = (await traces(page)).phones.flat().map(([x]) => x);
  assert.deepEqual(xs, [...xs].sort((a, b) => a - b));
});

onPage("before the first sample no number is shown", async ({ page, relay: start, script: play }) => {
  const script = await play(await start());
  await page.goto(script.url);
  await isLive(page);
  await page.locator("#frames > svg").hover();
  await page.locator("#frames > svg").focus();
  for (const key of ["ArrowLeft", "Home", "Escape"]) await page.keyboard.press(key);
  assert.deepEqual((await tiles(page)).Binaries, ["–", "connected"]);
  assert.ok(Object.values(await rows(page)).flat().every(Number.isNaN));
  script.tell("sample", samples(1, Date.now())[0]);
  await until("the first", () => tiles(page), shown => shown.Binaries[0] === "0");
  // A rate needs two samples.
  assert.equal((await tiles(page))["To phones"][0], "– frames/s");
});

onPage("the page reconnects after a dead connection or an invalid response", async ({ page, relay: start, script: play }) => {
  const script = await play(await start());
  script.kept = samples(20, Date.now());
  await page.clock.install();
  await page.goto(script.url);
  await isLive(page);
  assert.equal(script.asked, 1);
  // Open, but silent.
  await page.clock.runFor(6_000);
  assert.equal(await stateOf(page), "Stale");
  assert.equal(script.asked, 1);
  await page.clock.runFor(11_000);
  await until("another connection", () => script.asked, asked => asked === 2);
  await isLive(page);
  // A proxy without a relay behind it. The browser alone would never reconnect.
  script.broken = true;
  script.cut();
  await becomes(page, "Reconnecting");
  await until("a question to the proxy", () => script.asked, asked => asked === 3);
  await sleep(500);
  assert.equal(await stateOf(page), "Reconnecting");
  script.broken = false;
  await page.clock.runFor(4_000);
  await until("a relay again", () => stateOf(page), state => state === "Live", 3_000);
}, { expected: /status of 502|ERR_INCOMPLETE_CHUNKED_ENCODING/ });

onPage("the plots can be read by keyboard and by ear", async ({ page, relay: start, script: play }) => {
  const script = await play(await start());
  const end = Date.UTC(2026, 0, 2, 3, 4, 5);
  script.kept = samples(60, end, second => ({ binaries: second, phones: 7 }));
  await page.goto(script.url);
  await isLive(page);
  assert.equal(await page.getByRole("status").textContent(), "Live");
  const plot = page.getByRole("img", { name: "Connected, last five minutes: binaries 59, at most 59; phones 7, at most 7." });
  await plot.focus();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  const spoken = page.locator("[aria-live]");
  assert.equal(await spoken.textContent(), "03:04:03: binaries 57, phones 7");
  await until("its time", () => page.locator("#grace time").textContent(), text => text === "03:04:03 UTC");
  await page.keyboard.press("Escape");
  await until("no time", () => page.locator("#grace time").textContent(), text => text === "now");
  // Screen readers must not announce what changes each second.
  assert.equal(await page.locator("[aria-live] *, [role=status] *").count(), 0);
  // The two lines can be told apart without colours.
  const dashes = await page.$$eval("#connected > svg .trace", all => all.map(it => getComputedStyle(it).strokeDasharray));
  assert.notEqual(dashes[0], dashes[1]);
});

const TOKEN = "correct-horse-battery-staple";
const EVICTED = 1008;

/** Flags of a relay with an admin API. */
async function withToken() {
  const folder = await mkdtemp(path.join(tmpdir(), "page-"));
  after(() => rm(folder, { recursive: true }));
  const file = path.join(folder, "token");
  await writeFile(file, TOKEN);
  return ["--admin-token-file", file, "--rate-burst", "0"];
}
async function list(page, token = TOKEN) {
  await page.getByLabel("Admin token").fill(token);
  await page.getByRole("button", { name: "List" }).click();
}
const listed = page => page.$$eval("#servers > tbody > tr:not(.phones) > th", all => all.map(it => it.textContent));
const lists = (page, names) => until("the list", () => listed(page), shown => shown.join() === names.join());
const tells = (page, text) => until("what it tells", () => page.locator("#told").textContent(), shown => shown === text);
/** Answers all questions of the page, and returns them. */
function confirming(page, answer = true) {
  const asked = [];
  page.on("dialog", dialog => {
    asked.push(dialog.message());
    return answer ? dialog.accept() : dialog.dismiss();
  });
  return asked;
}

onPage("an operator lists server-ids and evicts a phone and a binary", async ({ page, relay: start }) => {
  const relay = await start(...await withToken());
  const binary = await relay.binary("laptop");
  await relay.binary("other");
  const [gone, stays] = [await relay.phone("laptop"), await relay.phone("laptop")];
  await page.goto(relay.url);
  await isLive(page);
  await list(page);
  await lists(page, ["laptop", "other"]);
  const row = page.locator("#servers > tbody > tr").first();
  const cells = await row.locator("> td").allTextContents();
  assert.deepEqual([cells[0], cells[2], cells[3], cells[4]], ["present", "1.0", "127.0.0.1", "2"]);
  await page.getByRole("button", { name: "Phones of laptop" }).click();
  const phones = page.locator("tr.phones tbody tr");
  await until("two phones", () => phones.count(), count => count === 2);
  await shoot(page, "admin");
  const asked = confirming(page);
  const connId = await phones.first().locator("th").textContent();
  await phones.first().getByRole("button").click();
  await tells(page, `Evicted the phone ${connId} of “laptop”.`);
  assert.equal(await Promise.race([gone.closed, stays.closed]), EVICTED);
  assert.deepEqual(asked, [`Evict the phone ${connId} of “laptop”?`]);
  await page.getByRole("button", { name: "Phones of laptop" }).click();
  await until("one phone", () => phones.count(), count => count === 1);
  await page.getByRole("button", { name: "Phones of laptop" }).click();
  await until("none shown", () => phones.count(), count => count === 0);
  await page.getByRole("button", { name: "Evict laptop" }).click();
  await tells(page, "Evicted “laptop” and its phones.");
  await lists(page, ["other"]);
  assert.equal(await binary.closed, EVICTED);
  await Promise.all([gone.closed, stays.closed]);
});

onPage("what an operator does not confirm does not happen, and what fails is told", async ({ page, relay: start }) => {
  const relay = await start(...await withToken());
  const binary = await relay.binary("a");
  await page.goto(relay.url);
  await isLive(page);
  await list(page, "a-wrong-token-of-an-operator");
  await tells(page, "HTTP 401: send the token of --admin-token-file as Authorization: Bearer");
  await list(page, "東京");
  await until("an error", () => page.locator("#told").textContent(), shown => shown.startsWith("The relay does not answer, or"));
  assert.deepEqual(await listed(page), []);
  await list(page);
  await lists(page, ["a"]);
  const asked = confirming(page, false);
  await page.getByRole("button", { name: "Evict a" }).click();
  await until("the question", () => asked.length, length => length === 1);
  assert.equal(binary.readyState, 1);
  // Somebody else was faster.
  const answer = await fetch(`${relay.url}servers/a`, { method: "DELETE", headers: { Authorization: `Bearer ${TOKEN}` } });
  assert.equal(answer.status, 204);
  await page.getByRole("button", { name: "Phones of a" }).click();
  await tells(page, "HTTP 404: nobody holds that server-id");
  await list(page);
  await tells(page, "Nobody holds such a server-id.");
}, { expected: /status of 40[14]/ });

onPage("server-ids are listed in pages", async ({ page, relay: start }) => {
  const relay = await start(...await withToken());
  const names = Array.from({ length: 53 }, (_, index) => `n${String(index).padStart(2, "0")}`);
  for (const name of names) await relay.binary(name);
  await page.goto(relay.url);
  await isLive(page);
  await list(page);
  await lists(page, names.slice(0, 50));
  await page.getByRole("button", { name: "Next page" }).click();
  await lists(page, names.slice(50));
  assert.ok(await page.getByRole("button", { name: "Next page" }).isHidden());
  await page.getByLabel("after").fill("n49");
  await page.getByLabel("after").press("Enter");
  await lists(page, names.slice(50));
});

onPage("names are text, whatever they look like", async ({ page, relay: start }) => {
  const relay = await start(...await withToken());
  const names = ["%2F", "+", "..", "/", "<img src=x onerror=report('run')>", "?x=1&y#z", "a b", "a//b/", "a\\b"];
  const binaries = [];
  for (const name of names) binaries.push(await relay.binary(name));
  await page.goto(relay.url);
  await isLive(page);
  await list(page);
  await lists(page, names);
  assert.equal(await page.locator("#admin img").count(), 0);
  confirming(page);
  await page.getByRole("button", { name: "Evict ..", exact: true }).click();
  await tells(page, "A browser cannot ask for “..”. Use curl --path-as-is.");
  const rest = names.filter(name => name !== "..");
  for (const name of rest) {
    await page.getByRole("button", { name: `Evict ${name}`, exact: true }).click();
    await tells(page, `Evicted “${name}” and its phones.`);
  }
  await lists(page, [".."]);
  const codes = await Promise.all(binaries.filter((_, index) => names[index] !== "..").map(binary => binary.closed));
  assert.ok(codes.every(code => code === EVICTED));
});

onPage("without an admin API the page says nothing of it", async ({ page, relay: start }) => {
  const relay = await start();
  await page.goto(relay.url);
  await isLive(page);
  assert.ok(await page.locator("#admin").isHidden());
});
