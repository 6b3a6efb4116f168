// One Chromium for each file: a start costs about a second, a page does not. It is the
// headless shell, the same engine without the browser's own windows, in which a page
// costs half as much.
import assert from 'node:assert/strict'
import { mkdtempSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const need = (name) => {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set`)
  return value
}
export const base = need('BASE_URL').replace(/\/$/, '')
export const email = need('ADMIN_EMAIL')
export const password = need('ADMIN_PASSWORD')
export const shots = process.env.SHOTS ?? ''
if (shots) mkdirSync(shots, { recursive: true })

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const args = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

/** A browser with an empty profile of its own. */
export async function openBrowser(options = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'mailward-e2e-'))
  const context = await chromium.launchPersistentContext(folder, { executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium-headless-shell', args, ...options })
  context.setDefaultTimeout(15_000)
  return {
    context,
    async close() {
      await context.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** A new page that collects what must not happen: errors of the console and of scripts. */
export async function openPage(context, { width = 1440, height = width < 800 ? 844 : 900 } = {}) {
  const page = await context.newPage()
  await page.setViewportSize({ width, height })
  page.problems = []
  page.on('console', (m) => {
    // The status of an answer that is meant to be an error is not a problem of the page.
    if (m.type() === 'error' && !/Failed to load resource/.test(m.text())) page.problems.push(m.text())
  })
  page.on('pageerror', (e) => page.problems.push(String(e)))
  return page
}

/** Runs fn with a fresh page and fails on anything that the page complained about. */
export async function withPage(context, fn, options) {
  const page = await openPage(options?.context ?? context, options)
  try {
    await fn(page)
    assert.deepEqual(page.problems, [], 'errors in the console')
  } catch (err) {
    if (shots) await page.screenshot({ path: join(shots, 'failed.png') }).catch(() => {})
    throw err
  } finally {
    await page.close()
  }
}

export async function look(context, theme, lang = 'en') {
  await context.addCookies([
    { name: 'mailward_theme', value: theme, url: base },
    { name: 'mailward_lang', value: lang, url: base },
  ])
}

export async function login(page, secret = password, who = email) {
  await page.goto(base + '/login')
  await page.fill('input[name=email]', who)
  await page.fill('input[name=password]', secret)
  await page.click('form[action="/login"] button')
  await page.waitForURL((u) => u.pathname !== '/login')
}

/**
 * Filters a list and waits until what it found is in place: until then a click may
 * hit a row that is about to be replaced.
 */
export async function filter(page, act) {
  await page.evaluate(() => {
    const before = location.href
    globalThis.filtered = new Promise((resolve) => {
      document.addEventListener('htmx:after:swap', () => { if (location.href !== before) resolve() })
    })
  })
  await act()
  await page.evaluate(() => globalThis.filtered)
}

const allRules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
const colourRules = { type: 'rule', values: ['color-contrast', 'link-in-text-block'] }

/** What axe finds. It is put in through the protocol, so the page's strict policy stays on. */
export async function violations(page, runOnly = allRules) {
  if (!await page.evaluate(() => 'axe' in globalThis)) await page.evaluate(axeSource)
  return page.evaluate(async (rules) => {
    const r = await globalThis.axe.run(document, { runOnly: rules, iframes: false, resultTypes: ['violations'] })
    return r.violations.map((v) => `${v.id} (${v.impact}): ${v.nodes.slice(0, 3).map((n) => n.target.join(' ') + ' ' + (n.any[0]?.message ?? n.all[0]?.message ?? n.none[0]?.message ?? '')).join(' | ')}`)
  }, runOnly)
}

/** By how many pixels the page is wider than its window. */
export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)

/**
 * What is wrong with the look of a page, in both themes, wide and narrow. A theme is an
 * attribute of the page and some colours: in the second one only what axe says of
 * colours can differ.
 */
export async function flaws(page, name) {
  const found = []
  for (const [theme, width, rules] of [['dark', 1440, colourRules], ['dark', 390, colourRules], ['light', 390, allRules], ['light', 1440, allRules]]) {
    await page.setViewportSize({ width, height: width < 800 ? 844 : 900 })
    await page.evaluate((t) => { document.documentElement.dataset.theme = t }, theme)
    for (const v of await violations(page, rules)) found.push(`${name} ${theme} ${width}: ${v}`)
    const wider = await overflow(page)
    if (wider > 0) found.push(`${name} ${theme} ${width}: ${wider} px wider than the window`)
    if (shots) await page.screenshot({ path: join(shots, `${name}-${theme}-${width}.png`) })
  }
  return found
}
