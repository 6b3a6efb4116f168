// Hostile mails in a real browser. See the Go test that starts it, and has the
// server that must not be asked: webui/hostile_test.go.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const { BASE_URL: base, CANARY: canary, CONTROL: control, ALONE: single, MAILS, NETLOG: netlog } = process.env
const { items, alone } = JSON.parse(MAILS)
const folder = mkdtempSync(join(tmpdir(), 'mailward-hostile-'))
const context = await chromium.launchPersistentContext(folder, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    `--host-resolver-rules=MAP canary.example ${canary}, MAP control.example ${control}, MAP alone.example ${single}`, `--log-net-log=${netlog}`],
})
// What is asked here is what a page can do, not how soon: one of them nests 20,000 tables.
context.setDefaultTimeout(60_000)
await context.addCookies([{ name: 'mailward_session', value: 'secret', url: base }])

/** What a frame could do, seen from within it. */
const state = () => {
  let cookie
  try {
    cookie = document.cookie
  } catch (err) {
    cookie = err.name
  }
  return { owned: globalThis.owned, title: document.title, origin: self.origin, cookie, text: document.body?.innerText ?? '' }
}

const problems = []
let popups = 0

async function visit(name, path, check) {
  const page = await context.newPage()
  page.on('popup', () => popups++)
  try {
    await page.goto(base + path, { waitUntil: 'load' })
    await check(page)
    assert.equal(page.url(), base + path, 'the page was left')
  } catch (err) {
    problems.push(`${name} at ${path}: ${err.message}`)
  } finally {
    await page.close()
  }
}

const harmless = (s) => {
  assert.equal(s.owned, undefined, 'a script ran')
  assert.notEqual(s.title, 'owned', 'a script ran')
}

const opaque = (s) => {
  harmless(s)
  assert.equal(s.origin, 'null', 'not an origin of its own')
  assert.equal(s.cookie, 'SecurityError', 'cookies can be reached')
}

const work = []
for (const [name, id] of Object.entries(items)) {
  work.push([name, `/quarantine/${id}?as=html`, async (page) => {
    harmless(await page.evaluate(state))
    const frames = page.frames().filter((f) => f !== page.mainFrame())
    assert.equal(frames.length, 1, 'one frame')
    assert.equal(frames[0].url(), `${base}/quarantine/${id}/preview`, 'the frame went elsewhere')
    const s = await frames[0].evaluate(state)
    opaque(s)
    assert.match(s.text, /seen/)
  }])
  work.push([name, `/quarantine/${id}/preview`, async (page) => {
    opaque(await page.evaluate(state))
    assert.equal(page.frames().length, 1)
    assert.equal(await page.locator('a, form, input, button, iframe, object, embed, svg, math, link, base, script, [src]:not([src^="data:image/"])').count(), 0, 'something can act')
  }])
}
for (const name of alone) {
  work.push([name, `/alone/sanitiser/${name}`, async (page) => harmless(await page.evaluate(state))])
  // No policy keeps a browser from preconnecting and looking up names: that is the sanitiser's work alone.
  if (name !== 'prefetch') work.push([name, `/alone/policy/${name}`, async (page) => opaque(await page.evaluate(state))])
}
await Promise.all([...Array(4)].map(async () => {
  while (work.length) await visit(...work.shift())
}))

// Without any defence, all of it is seen.
for (const [name, sees] of [['xss-script', (s) => assert.equal(s.owned, 1)], ['prefetch', () => {}], ['tracking', () => {}]]) {
  const page = await context.newPage()
  await page.goto(`${base}/alone/none/${name}`, { waitUntil: 'load' })
  await page.waitForLoadState('networkidle')
  sees(await page.evaluate(state))
  await page.close()
}
await context.close() // writes the log
rmSync(folder, { recursive: true, force: true })
assert.deepEqual(problems, [])
assert.equal(popups, 0, 'a window was opened')
