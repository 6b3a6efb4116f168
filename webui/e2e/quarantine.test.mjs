// The list of held mail in a real browser: filter, pick, one act on many, result.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { base, login, look, openBrowser, openPage, overflow, shots, violations } from './browser.mjs'

let browser
let page
before(async () => {
  browser = await openBrowser()
  await look(browser.context, 'light')
  page = await openPage(browser.context)
  await login(page)
})
after(() => browser?.close())

const rows = () => page.locator('[data-row]')
const clean = async (name) => {
  if (shots) await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true })
  assert.deepEqual(await violations(page), [], `${name}: accessibility`)
  assert.ok(await overflow(page) <= 0, `${name}: wider than the window`)
}

test('filter, pick with keys and shift, delete many, see what became of each', async () => {
  await page.goto(`${base}/quarantine?range=all&subject=campaign`)
  assert.equal(await rows().count(), 3)
  assert.equal(await page.locator('.term').count(), 1, 'the filter can be taken away')
  await clean('quarantine-filtered')

  // The panel is open while one of its fields filters, and opens by hand otherwise.
  assert.equal(await page.getByLabel('Subject', { exact: true }).inputValue(), 'campaign')
  await page.goto(`${base}/quarantine?range=all&q=campaign`)
  assert.ok(!await page.getByLabel('Sender', { exact: true }).isVisible())
  await page.locator('.morefilters summary').click()
  assert.ok(await page.getByLabel('Sender', { exact: true }).isVisible())
  await page.goto(`${base}/quarantine?range=all&subject=campaign`)

  const act = page.getByRole('button', { name: 'Delete', exact: true })
  assert.ok(await act.isDisabled(), 'nothing is picked')
  await rows().first().locator('a[data-open]').focus()
  await page.keyboard.press('x')
  assert.equal(await page.locator('[data-picked]').innerText(), '1')
  await page.keyboard.press('Escape')
  assert.equal(await page.locator('[data-picked]').innerText(), '0')
  await page.locator('[data-pick]').first().click()
  await page.locator('[data-pick]').nth(2).click({ modifiers: ['Shift'] })
  assert.equal(await page.locator('[data-picked]').innerText(), '3')
  await clean('quarantine-picked')
  await act.click()

  await page.waitForURL(/\/quarantine\/bulk\/new/)
  await clean('bulk-confirm')
  await page.fill('textarea[name=reason]', 'one campaign, nobody needs it')
  const secret = page.locator('input[name=password]')
  if (await secret.count()) await secret.fill(process.env.ADMIN_PASSWORD)
  await page.locator('form[action="/quarantine/bulk"] .dialog-foot button').click()
  await page.waitForURL(/\/quarantine\/bulk\/[0-9a-f-]{36}/)
  await page.locator('#bulk[data-state=done]').waitFor()
  assert.equal(await page.locator('.bulktable tbody tr', { hasText: 'Done' }).count(), 3)
  await clean('bulk-done')

  await page.goto(`${base}/quarantine/bulk`)
  assert.equal(await page.getByRole('link', { name: 'Delete 3 messages' }).count(), 1)
  await clean('bulks')
  await look(browser.context, 'dark')
  await page.goto(`${base}/quarantine?range=all&state=gone&subject=campaign`)
  assert.equal(await rows().count(), 3)
  await clean('quarantine-dark')
  await page.setViewportSize({ width: 390, height: 844 })
  await page.reload()
  await clean('quarantine-narrow')
  assert.deepEqual(page.problems, [])
})
