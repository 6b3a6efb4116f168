// Evidence: from a held mail to a bundle in the hand, as an analyst does it.
import { test, before, after } from 'node:test'
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { base, login, look, openBrowser, openPage, overflow, password, shots, violations } from './browser.mjs'

let browser
before(async () => {
  browser = await openBrowser()
  await look(browser.context, 'light')
  const page = await openPage(browser.context)
  await login(page)
  await page.waitForURL(base + '/')
  await page.close()
})
after(() => browser.close())

async function check(page, name) {
  for (const width of [1440, 390]) {
    await page.setViewportSize({ width, height: 900 })
    assert.deepEqual(await violations(page), [], `${name} at ${width}`)
    assert.ok((await overflow(page)) <= 0, `${name} overflows at ${width}`)
    if (shots) await page.screenshot({ path: join(shots, `${name}-${width}.png`), fullPage: true })
  }
  await page.setViewportSize({ width: 1440, height: 900 })
}

test('a held mail is exported as evidence, followed, found and downloaded', async () => {
  const page = await openPage(browser.context)
  await page.goto(base + '/evidence')
  await check(page, 'evidence-empty')
  await page.goto(base + '/quarantine?range=all&q=parcel')
  await page.locator('[data-row] a[data-open]').first().click()
  await page.getByRole('link', { name: 'Open as a page' }).click()
  await page.locator('a[data-dialog=export]').click()
  const dialog = page.locator('dialog#export')
  await dialog.waitFor()
  await check(page, 'evidence-dialog')
  await dialog.locator('input[name=case]').fill('INC-2026-0042')
  await dialog.locator('textarea[name=reason]').fill('needed for the report')
  await dialog.getByRole('button', { name: 'Export' }).click()
  await dialog.getByText('This case is new').waitFor()
  assert.equal(await dialog.locator('input[name=case]').inputValue(), 'INC-2026-0042')
  await dialog.locator('input[name=title]').fill('Wave of parcels')
  await dialog.locator('input[name=purpose]').fill('report to the authority')
  await dialog.locator('select[name=language]').selectOption('de')
  if (await dialog.locator('input[name=password]').count()) await dialog.locator('input[name=password]').fill(password)
  await dialog.getByRole('button', { name: 'Export' }).click()
  await page.waitForURL(/\/evidence\/[0-9a-f-]{36}$/)
  await page.locator('[data-state=done]').waitFor({ timeout: 60_000 }) // it renews itself
  await page.getByText('is not WORM storage').waitFor()
  await check(page, 'evidence-item')
  const [bundle] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download all as a zip' }).click()])
  assert.match(bundle.suggestedFilename(), /^EV-\d{4}-\d{6}\.zip$/)
  assert.equal(readFileSync(await bundle.path()).subarray(0, 2).toString(), 'PK')
  const [report] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download report.pdf' }).click()])
  assert.equal(readFileSync(await report.path()).subarray(0, 5).toString(), '%PDF-')
  await page.reload()
  assert.match(await page.locator('#export').innerText(), /downloaded/)
  await page.goto(base + '/evidence?q=inc-2026-0042&state=done')
  await page.locator('[data-row]').first().waitFor()
  await check(page, 'evidence-list')
  await look(browser.context, 'dark', 'de')
  await page.reload()
  await check(page, 'evidence-german')
  assert.deepEqual(page.problems, [])
  await page.close()
})
