// What decides about mail and about alarms, in a real browser: YARA rules, threat
// intelligence, alert rules. See the Go test that starts it: e2e/browser_test.go.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { base, login, look, openBrowser, shots, violations, withPage as withPageOf } from './browser.mjs'

let browser
before(async () => {
  browser = await openBrowser()
  await look(browser.context, 'light')
  await withPage(login)
})
after(() => browser?.close())

const withPage = (fn, options) => withPageOf(browser.context, fn, options)
const row = (page, subject) => page.locator('[data-row]', { hasText: subject })

test('YARA rules: an error at its line, a trial, into force, a new version, back, gone', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/yara/new')
    await page.fill('[name=name]', 'Browser set')
    await page.selectOption('[name=class]', 'spam')
    await page.fill('[name=source]', 'rule FromTheBrowser {\n  condition:\n    part_nam == "invoice"\n}\n')
    await page.click('button[formaction]')
    await page.locator('#issues [data-error]').waitFor()
    assert.match(await page.locator('#issues').innerText(), /Line 3[\s\S]*part_nam/)
    assert.equal(await page.locator('.gutter .bad').innerText(), '3', 'the line is marked beside the text')
    await page.click('#issues [data-line] a')
    assert.equal(await page.evaluate(() => {
      const t = document.querySelector('[name=source]')
      return t.value.slice(t.selectionStart, t.selectionEnd)
    }), '    part_nam == "invoice"')
    await page.fill('[name=source]', 'rule FromTheBrowser {\n  condition:\n    part_name contains "parcel"\n}\n')
    await page.click('.ruleform .btn.primary')
    await page.waitForURL(/\/yara\/[0-9a-f-]{36}$/)
    const set = page.url()

    await page.click('[data-dialog=backtest]')
    await page.click('#backtest[open] .btn.primary')
    await page.locator('#trial .facts').waitFor()
    assert.match(await page.locator('#trial').innerText(), /1 of \d+ hit[\s\S]*0 of 5 hit[\s\S]*FromTheBrowser/)
    assert.ok(await page.locator('#trial a[href^="/quarantine/"]').count(), 'the mail that was hit is linked')
    for (const v of await violations(page)) assert.fail(v)
    if (shots) await page.screenshot({ path: join(shots, 'rules-trial.png'), fullPage: true })

    await page.goto(set)
    await page.click('button[name=on]')
    await page.locator('.item-head .dot.t-ok').waitFor()
    await page.goto(base + '/yara')
    for (let i = 0; i < 60 && !(await page.locator('.banner.t-ok').count()); i++) {
      await page.waitForTimeout(250)
      await page.reload()
    }
    assert.match(await page.locator('.banner.t-ok').innerText(), /in force/)

    await page.goto(set)
    await page.fill('[name=source]', 'rule FromTheBrowser {\n  condition:\n    part_name contains "parcels"\n}\n')
    await page.fill('[name=comment]', 'only several')
    await page.click('button[name=do][value=later]')
    await page.getByText('(version 2 is stored)').waitFor()
    for (const v of await violations(page)) assert.fail(v)
    if (shots) await page.screenshot({ path: join(shots, 'rules-set.png'), fullPage: true })
    await page.locator('.versions a').first().click()
    assert.match(await page.locator('.diff').innerText(), /parcel"[\s\S]*parcels"/)
    for (const v of await violations(page)) assert.fail(v)
    await page.click('form[action$="/use"] button')
    await page.waitForURL(set)
    assert.equal(await page.locator('.versions li').first().locator('.badge').count(), 1, 'the new version is in use')

    await page.click('[data-dialog=delete]')
    await page.click('#delete[open] .btn.danger')
    await page.waitForURL(base + '/yara')
    assert.equal(await row(page, 'Browser set').count(), 0)
  })
})

test('YARA rules without a script: created from a file, narrow too', async () => {
  const plain = await openBrowser({ javaScriptEnabled: false })
  try {
    await withPage(async (page) => {
      await login(page)
      await page.goto(base + '/yara/new')
      await page.setInputFiles('[name=file]', { name: 'uploaded.yar', mimeType: 'text/plain', buffer: Buffer.from('rule Uploaded { condition: false }') })
      await page.fill('[name=name]', 'Uploaded')
      await page.click('.ruleform .btn.primary')
      await page.waitForURL(/\/yara\/[0-9a-f-]{36}$/)
      assert.match(await page.locator('[name=source]').inputValue(), /rule Uploaded/)
      await page.click('a[data-dialog=delete]')
      await page.locator('#delete .btn.danger').click()
      await page.waitForURL(base + '/yara')
    }, { context: plain.context, width: 390 })
  } finally {
    await plain.close()
  }
})

test('threat intelligence: what feeds say and how they fare; a value is blocked, found in the list, and ended', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/intel?q=' + encodeURIComponent('hxxp://kit.bad[.]example/login?id=1'))
    assert.match(await page.locator('#results').innerText(), /hxxp:\/\/kit\[\.\]bad\[\.\]example\/login\?id=1[\s\S]*urlhaus/)
    await page.fill('#q', 'good.example')
    await page.getByText('Nothing is known of it').waitFor()
    await page.goto(base + '/intel/feeds')
    assert.match(await page.locator('#feed-urlhaus').innerText(), /Good[\s\S]*2 rows/)
    assert.match(await page.locator('#feed-misp').innerText(), /Needs a look[\s\S]*key is not accepted/)
    await page.locator('#feed-urlhaus .btn').click()
    await page.getByText('The feed is being read.').waitFor()
    await page.goto(base + '/health')
    assert.match(await page.locator('main').innerText(), /The feed misp answers but does not take our key/)
    await page.goto(base + '/intel/overrides')
    await page.fill('[name=value]', 'hxxp://evil[.]example/login')
    await page.fill('textarea[name=reason]', 'reported by a customer')
    await page.click('.pol-form .btn.primary')
    await page.getByText('The override is in force.').waitFor()
    const card = page.locator('#results .card', { hasText: 'hxxp://evil[.]example/login' })
    assert.match(await card.innerText(), /reported by a customer/)
    for (const v of await violations(page)) assert.fail(v)
    await card.locator('[name=reason]').fill('was a mistake')
    await card.locator('.btn.danger').click()
    await page.getByText('The override has ended.').waitFor()
    assert.equal(await card.count(), 0)
  }, { width: 320 })
})

test('alerts: a rule is tried while it is written, fires within a minute, reacts, leads to the quarantine, is taken in hand, and its reaction undone', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/alerts/rules/new')
    await page.fill('input[name=name]', 'Anything held')
    await page.selectOption('select[name=metric]', 'quarantine_rate_5min')
    await page.fill('input[name=threshold]', '0')
    await page.fill('input[name=window]', '24h')
    await page.check('input[name=each]')
    await page.locator('#preview', { hasText: 'Mails held back' }).waitFor()
    await page.locator('#preview', { hasText: 'above 0, for each domain by itself' }).waitFor()
    assert.match(await page.locator('#preview').innerText(), /would have fired in the last 7 days/)
    await page.selectOption('select[name=reaction_kind]', 'lock')
    await page.uncheck('input[name=reaction_dry]')
    await page.fill('input[name=reaction_lasts]', '10m')
    await page.locator('#preview', { hasText: 'is quarantined, whatever was found' }).waitFor()
    if (shots) await page.screenshot({ path: join(shots, 'alert-preview.png'), fullPage: true })
    await page.getByRole('button', { name: 'Save' }).click()
    await page.locator('[data-row]', { hasText: 'Anything held' }).waitFor()

    const fired = page.locator('[data-row]', { hasText: 'Anything held' }).filter({ hasText: 'ours.example' })
    for (const end = Date.now() + 60_000; ; await page.waitForTimeout(500)) {
      await page.goto(base + '/alerts')
      if (await fired.filter({ hasText: 'Firing' }).count()) break
      assert.ok(Date.now() < end, 'it did not fire within a minute')
    }
    await fired.locator('a[data-open]').first().click()
    assert.deepEqual(await violations(page), [])
    await page.fill('input[name=note]', 'looking into it')
    await page.getByRole('button', { name: 'Acknowledge' }).click()
    await page.locator('.facts', { hasText: 'Acknowledged' }).waitFor()
    if (shots) await page.screenshot({ path: join(shots, 'alert.png'), fullPage: true })
    const reaction = page.locator('.card', { hasText: 'Quarantine lock' })
    for (const end = Date.now() + 15_000; !await reaction.getByText('In force').count(); await page.reload()) assert.ok(Date.now() < end, 'it did not react')
    assert.deepEqual(await violations(page), [])
    await reaction.locator('input[name=reason]').fill('seen to by hand')
    await reaction.getByRole('button', { name: /^Undo/ }).click()
    await page.getByText('Undone').first().waitFor()
    await page.goto(base + '/alerts/reactions')
    assert.match(await page.locator('#results .card').first().innerText(), /Quarantine lock: Anything held[\s\S]*Undone/)
    await page.goto(base + '/audit?action=alert.reaction.*')
    assert.match(await page.locator('[data-row]', { hasText: 'alert.reaction.create' }).innerText(), /System/)
    await page.locator('[data-row]', { hasText: 'alert.reaction.update' }).first().waitFor()
    await page.goto(base + '/alerts')
    await fired.locator('a[data-open]').first().click()
    await page.getByRole('link', { name: 'Open quarantine' }).click()
    await page.waitForURL(/\/quarantine\?domain=ours.example/)
    await row(page, 'Invoice 4711').first().waitFor()
    await page.goto(base + '/audit?action=alert.*')
    await page.locator('[data-row]', { hasText: 'alert.ack.create' }).first().waitFor()
  })
})
