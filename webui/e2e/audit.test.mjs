// Reading the audit, as an auditor does. See the Go test that starts it:
// e2e/browser_test.go.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { base, email, login, look, openBrowser, openPage, overflow, shots, violations } from './browser.mjs'

let browser
let context
let watching // a page that is left alone, until it says that there is something new
before(async () => {
  browser = await openBrowser({ acceptDownloads: true })
  context = browser.context
  await look(context, 'light')
  const page = await openPage(context)
  await login(page)
  await page.close()
  watching = await openPage(context)
  await watching.goto(base + '/audit?action=auth.*')
  await failLogin('nobody-new@ours.example')
})
after(() => browser?.close())

/** A refused login is an event that everybody can cause. */
async function failLogin(who) {
  const answer = await fetch(base + '/login', { method: 'POST', redirect: 'manual', body: new URLSearchParams({ email: who, password: 'wrong' }), headers: { Origin: base } })
  assert.ok(answer.status >= 400 && answer.status < 500, `a wrong password: ${answer.status}`)
}

async function withPage(fn, options) {
  const page = await openPage(context, options)
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

const rows = (page) => page.locator('[data-row]')
const actions = (page) => page.locator('[data-row] .action').allInnerTexts()

async function download(page, selector) {
  const [file] = await Promise.all([page.waitForEvent('download'), page.click(selector)])
  return { name: file.suggestedFilename(), text: Buffer.concat(await (await file.createReadStream()).toArray()).toString() }
}

test('audit: filters are in the address, together and after a reload; a click on an action filters', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/audit')
    await page.selectOption('select[name=action]', 'auth.*')
    await page.waitForURL(/action=auth/)
    await page.selectOption('select[name=outcome]', 'failure')
    await page.waitForURL(/outcome=failure/)
    await page.selectOption('select[name=range]', 'today')
    await page.waitForURL(/range=today/)
    await page.waitForFunction(() => [...document.querySelectorAll('[data-row] .action')].every((a) => a.textContent.trim() === 'auth.login_failed'))
    assert.ok(await rows(page).count() >= 1)
    await page.reload()
    assert.equal(await page.inputValue('select[name=outcome]'), 'failure')
    assert.equal(await page.inputValue('select[name=range]'), 'today')
    assert.deepEqual([...new Set(await actions(page))], ['auth.login_failed'])
    await page.goto(base + `/audit?actor=${encodeURIComponent(email)}&ip=127.0.0.1&provider=local&action=auth.login`)
    assert.ok(await rows(page).count() >= 1, 'my own login, by person, address and provider')
    assert.ok(await page.locator('details:has(input[name=provider])').getAttribute('open') !== null, 'the filters that are set are shown')
    await page.goto(base + '/audit?range=last_year')
    assert.equal(await rows(page).count(), 0)
    await page.goto(base + '/audit')
    await page.locator('[data-row] .action a', { hasText: 'auth.login' }).first().click()
    await page.waitForURL(/action=auth\.login/)
  })
})

test('audit: what auditors ask is one click each', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/audit')
    await page.locator('summary', { hasText: 'What auditors ask' }).click()
    const questions = page.locator('details:has-text("What auditors ask") li a')
    assert.equal(await questions.count(), 7)
    for (const href of await questions.evaluateAll((all) => all.map((a) => a.getAttribute('href')))) {
      await page.goto(base + href)
      assert.equal(await page.locator('#results').count(), 1, href)
    }
    await page.goto(base + '/audit')
    await page.locator('summary', { hasText: 'What auditors ask' }).click()
    await page.getByRole('link', { name: /Roles that were granted/ }).click()
    await page.waitForURL(/action=role/)
    assert.ok((await actions(page)).includes('role.create'), 'the role of the first account')
  })
})

test('audit: an event in full, by its permanent link; and all that names it, in the order of time', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/audit?action=role.create&range=all')
    await rows(page).first().locator('a[data-open]').click()
    await page.locator('.expand').waitFor()
    assert.match(await page.locator('.expand .diff, .expand pre').first().innerText(), /"role": "a/)
    assert.match(await page.locator('.expand').innerText(), /leaf fits the bytes|not yet sequenced/)
    await page.goto(base + await page.locator('.expand a[href*="id="]').last().getAttribute('href'))
    await page.locator('.expand').waitFor()

    await page.goto(base + '/audit?action=auth.login&range=all')
    await rows(page).first().locator('a[data-open]').click()
    await page.locator('.expand dt:text-is("Session") + dd a').first().click()
    await page.waitForURL(/as=timeline/)
    const times = await page.locator('.tl time').evaluateAll((all) => all.map((t) => t.getAttribute('datetime')))
    assert.ok(times.length >= 1)
    assert.deepEqual(times, [...times].sort(), 'the oldest first')
    await page.getByRole('link', { name: 'Table', exact: true }).click()
    await rows(page).first().waitFor()
    assert.doesNotMatch(page.url(), /as=timeline/)
  })
})

test('audit: a view is saved, opened, replaced and deleted', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/audit')
    await page.selectOption('select[name=outcome]', 'failure')
    await page.waitForURL(/outcome=failure/)
    await page.waitForFunction(() => document.querySelector('#viewquery')?.value.includes('outcome=failure'))
    const views = page.locator('#views')
    if (await views.getAttribute('open') === null) await views.locator('summary').click()
    await page.fill('#views input[name=name]', 'What went wrong')
    await page.click('#views .viewform button')
    await page.getByText('The view is saved.').waitFor()
    await page.goto(base + '/audit')
    await page.getByRole('link', { name: 'What went wrong' }).click()
    await page.waitForURL(/outcome=failure/)
    assert.equal(await page.inputValue('select[name=outcome]'), 'failure')
    await page.getByRole('button', { name: 'Delete the view What went wrong' }).click()
    await page.getByText('The view is deleted.').waitFor()
    assert.equal(await page.getByRole('link', { name: 'What went wrong' }).count(), 0)
  })
})

test('audit: an export of exactly this filter says what it came to, in the file and on record', async () => {
  await withPage(async (page) => {
    await page.goto(base + '/audit')
    await page.selectOption('select[name=action]', 'role.*')
    await page.waitForFunction(() => document.querySelector('#export a')?.getAttribute('href')?.includes('role'))
    const csv = await download(page, '#export a[download]')
    assert.match(csv.text, /role\.create/)
    assert.doesNotMatch(csv.text, /auth\.login/)
    assert.match(csv.text, /^#events,\d+/m)
    assert.match(csv.text, /^#tree_head,/m)
    const sum = createHash('sha256').update(csv.text).digest('hex')
    await page.locator('#export a', { hasText: 'Export' }).click()
    await page.waitForURL(/audit\/exports/)
    await page.locator('#exports', { hasText: sum }).waitFor()
    for (const [format, want] of [['ndjson', /"action":"role\.create"/], ['ocsf', /"class_uid":3005/], ['ecs', /"category":\["iam"\]/], ['cef', /^CEF:0\|Mailward\|/m]]) {
      await page.selectOption('select[name=format]', format)
      const file = await download(page, 'main form button.primary')
      assert.match(file.text, want, format)
      await page.locator('#exports', { hasText: createHash('sha256').update(file.text).digest('hex') }).waitFor()
    }
    const manifest = JSON.parse((await download(page, '#exports a[download] >> nth=0')).text)
    assert.equal(manifest.format, 'cef')
    assert.ok(manifest.result.events >= 1 && manifest.result.tree_head.note.includes('audit'))
    await page.locator('#exports').getByRole('link', { name: 'On record' }).first().click()
    await page.waitForURL(/as=timeline/)
    const told = await page.locator('.tl a.mono').allInnerTexts()
    assert.deepEqual(told.filter((a) => a === 'audit.export').length, 2, 'that it begins, and how it ended')
    // That its manifest was taken is written after the answer, with others.
    const taken = page.locator('.tl a.mono', { hasText: 'web.view' })
    for (const end = Date.now() + 15_000; !await taken.count(); await page.reload()) assert.ok(Date.now() < end, 'that its manifest was taken is not on record')
  })
})

test('audit: a page that is left open says that something is new, and shows it when asked', async () => {
  const pill = watching.locator('#fresh a')
  await pill.waitFor({ timeout: 30_000 })
  assert.match(await pill.innerText(), /new events?/)
  if (shots) await watching.screenshot({ path: join(shots, 'audit-fresh.png') })
  const before = await rows(watching).first().innerText()
  await pill.click()
  await watching.waitForFunction((old) => document.querySelector('[data-row]')?.innerText !== old, before)
  assert.deepEqual(watching.problems, [])
})

test('audit: no accessibility violation and no overflow, in both themes, wide and narrow, in German', async () => {
  let session
  await withPage(async (page) => {
    await page.goto(base + '/audit?action=auth.login&range=all')
    await rows(page).first().locator('a[data-open]').click()
    session = await page.locator('.expand dt:text-is("Session") + dd a').first().getAttribute('href')
  })
  const states = [
    ['audit', '/audit', async (page) => page.locator('summary', { hasText: /More filters|Weitere Filter/ }).click()],
    ['audit-open', '/audit?action=role.*&range=all', async (page) => {
      await page.locator('[data-row] a[data-open]').first().click()
      await page.locator('.expand').waitFor()
    }],
    ['audit-timeline', session],
    ['audit-exports', `/audit/exports?actor=${encodeURIComponent(email)}&range=last_month`],
  ]
  const found = []
  for (const [theme, lang, widths] of [['light', 'en', [1440, 390]], ['dark', 'de', [390, 320, 1440]]]) {
    await look(context, theme, lang)
    for (const [name, path, act] of states) {
      await withPage(async (page) => {
        await page.goto(base + path)
        if (act) await act(page)
        for (const width of widths) {
          await page.setViewportSize({ width, height: 900 })
          if (width !== 320) for (const v of await violations(page)) found.push(`${name} ${theme} ${width}: ${v}`)
          if (await overflow(page) > 0) found.push(`${name} ${theme} ${width}: wider than the window`)
          if (shots) await page.screenshot({ path: join(shots, `${name}-${theme}-${width}.png`), fullPage: true })
        }
      }, { width: widths[0] })
    }
  }
  await look(context, 'light')
  assert.deepEqual(found, [])
})
