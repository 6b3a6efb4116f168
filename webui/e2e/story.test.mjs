// The story that the product is for, against the clock: a wave of phishing comes in,
// an alert names the domain, its link leads to the mails, one of them is exported as
// evidence, and the record says who saw and decided what. See e2e/browser_test.go.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { base, login, look, openBrowser, openPage, password, violations } from './browser.mjs'
import { arrives, askForPassword, mail, send } from './outside.mjs'

const domain = 'theirs.example'
let browser
let page
before(async () => {
  browser = await openBrowser()
  await look(browser.context, 'light')
  page = await openPage(browser.context)
  await login(page)

  await page.goto(base + '/alerts/channels')
  const channel = page.locator('form[action="/alerts/channels"]')
  await channel.locator('[name=name]').fill('SOC by mail')
  await channel.locator('[name=kind]').selectOption('email')
  await channel.locator('[name=target]').fill('soc@ours.example')
  await channel.locator('[name=everything]').check()
  await channel.getByRole('button').first().click()
  await page.getByText('SOC by mail').first().waitFor()

  // The rule that is there from the start, at a threshold that three mails are above.
  await page.goto(base + '/alerts/rules?q=Phishing+spike')
  await page.locator('[data-row] a[data-open]').click()
  await page.fill('input[name=threshold]', '2')
  await page.fill('form:has(input[name=threshold]) input[name=reason]', 'a drill')
  await page.getByRole('button', { name: 'Save' }).click()
  await page.locator('[data-row]', { hasText: 'Phishing spike' }).filter({ hasText: 'above 2' }).waitFor()
})
after(() => browser?.close())

test('a wave of phishing: alert, the mails behind it, evidence, the record, in less than a minute', async (t) => {
  const subjects = ['Your mailbox is full', 'Your mailbox is closed today', 'Last warning']
  for (const subject of subjects) await send('mallory@sender.example', `dora@${domain}`, mail(subject, askForPassword, { to: `dora@${domain}`, type: 'text/html' }))
  const begin = Date.now()
  const took = {}
  const lap = (what) => { took[what] = Math.round((Date.now() - begin) / 100) / 10 }

  const [told] = await arrives('Phishing spike', 45_000)
  lap('alert')
  assert.deepEqual(told.to, ['soc@ours.example'])
  const text = told.raw.replaceAll('=\r\n', '').replaceAll('=3D', '=')
  assert.match(text, /theirs\.example/)
  const [, link] = /https?:\/\/[^/\s]+(\/quarantine\?[^\s"<]*class=phishing[^\s"<]*)/.exec(text)
  await page.goto(base + link)
  const rows = page.locator('[data-row]')
  assert.equal(await rows.count(), subjects.length)
  for (const row of await rows.allInnerTexts()) assert.match(row, /theirs\.example/)
  await rows.filter({ hasText: 'Last warning' }).locator('a[data-open]').click()
  await page.getByRole('link', { name: 'Open as a page' }).click()
  await page.selectOption('form[action$="/view"] select[name=purpose]', 'analysis')
  await page.fill('form[action$="/view"] input[name=reason]', 'the wave of today')
  await page.getByRole('button', { name: 'Show content' }).click()
  await page.locator('.bodytext').waitFor()
  lap('seen')

  await page.locator('a[data-dialog=export]').click()
  const dialog = page.locator('dialog#export')
  await dialog.locator('input[name=case]').fill('INC-2026-0099')
  await dialog.locator('textarea[name=reason]').fill('evidence of the wave')
  await dialog.getByRole('button', { name: 'Export' }).click()
  await dialog.getByText('This case is new').waitFor()
  await dialog.locator('input[name=title]').fill('Phishing against theirs.example')
  await dialog.locator('input[name=purpose]').fill('report to the authority')
  if (await dialog.locator('input[name=password]').count()) await dialog.locator('input[name=password]').fill(password)
  await dialog.getByRole('button', { name: 'Export' }).click()
  await page.waitForURL(/\/evidence\/[0-9a-f-]{36}$/)
  await page.locator('[data-state=done]').waitFor({ timeout: 60_000 })
  lap('exported')
  t.diagnostic(`seconds since the last mail: ${JSON.stringify(took)}`)
  assert.ok(took.exported < 60, `it took too long: ${JSON.stringify(took)}`)

  // The page of the alert leads to the same mails.
  await page.goto(base + '/alerts')
  await page.locator('[data-row]', { hasText: 'Phishing spike' }).filter({ hasText: domain }).filter({ hasText: 'Firing' }).locator('a[data-open]').click()
  assert.equal(new URL(await page.getByRole('link', { name: 'Open quarantine' }).getAttribute('href'), base).search.split('&').sort().join('&'), new URL(link, base).search.split('&').sort().join('&'))
  await page.fill('input[name=note]', 'evidence is kept')
  await page.getByRole('button', { name: 'Acknowledge' }).click()
  await page.locator('.facts', { hasText: 'Acknowledged' }).waitFor()

  // Who saw and decided what: on the mail's own timeline, and in the record.
  await page.goto(base + link)
  await rows.filter({ hasText: 'Last warning' }).locator('a[data-open]').click()
  const item = await page.locator('#drawer [data-item]').getAttribute('data-item')
  await page.goto(`${base}/quarantine/${item}?tab=history`)
  const acts = await page.locator('.acts').innerText()
  assert.match(acts, /exported the mail as evidence[\s\S]*evidence of the wave[\s\S]*saw the content[\s\S]*the wave of today[\s\S]*System held the mail/)
  assert.deepEqual(await violations(page), [])
  await page.getByRole('link', { name: 'Everything on record about this mail' }).click()
  for (const action of ['quarantine.item.create', 'quarantine.view_body', 'evidence.export.execute', 'evidence.export.sealed']) await page.locator('[data-row]', { hasText: action }).first().waitFor()
  await page.locator('[data-row]', { hasText: 'evidence.export.execute' }).first().locator('a[data-open]').click()
  assert.match(await page.locator('.expand').innerText(), /admin@ours\.example[\s\S]*evidence of the wave/)
  await page.goto(base + '/audit?action=alert.*')
  assert.match(await page.locator('[data-row]', { hasText: 'alert.ack.create' }).first().innerText(), /Administrator|admin@ours\.example/)
  await page.locator('[data-row]', { hasText: 'alert.rule.update' }).first().waitFor()
  assert.deepEqual(page.problems, [])
})
