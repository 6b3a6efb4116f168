// Builds what the pages need into dist/: app.js, app.css with its fonts, the
// icon sprite, each name with a hash of its content, .gz and .br beside each
// text file, and manifest.json, which maps "app.js" to the hashed name.
import { build } from 'esbuild'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync, readdirSync, rmSync, mkdirSync } from 'node:fs'
import { brotliCompressSync, gzipSync, constants } from 'node:zlib'

const dist = new URL('dist/', import.meta.url)
mkdirSync(dist, { recursive: true })
for (const name of readdirSync(dist)) {
  if (name !== '.placeholder') rmSync(new URL(name, dist), { recursive: true })
}

const result = await build({
  absWorkingDir: new URL('.', import.meta.url).pathname,
  entryPoints: [
    { in: 'src/app.ts', out: 'app' },
    { in: 'src/app.css', out: 'style' },
  ],
  outdir: 'dist',
  bundle: true,
  minify: true,
  format: 'esm',
  splitting: false,
  entryNames: '[name]-[hash]',
  assetNames: '[name]-[hash]',
  loader: { '.woff2': 'file' },
  target: ['es2022', 'chrome123', 'firefox121', 'safari17.5'],
  legalComments: 'linked',
  metafile: true,
})

// Two entry points may share a stem, so the key comes from the output's name.
const manifest = {}
const logical = (name) => name.replace(/-[A-Z0-9]{8}(?=\.)/, '')
for (const path of Object.keys(result.metafile.outputs)) {
  const name = path.replace(/^dist\//, '')
  manifest[logical(name)] = name
}

const icons = readFileSync(new URL('src/icons.txt', import.meta.url), 'utf8')
  .split('\n').map((l) => l.trim()).filter((l) => l && !l.startsWith('#'))
const symbols = icons.map((name) => {
  const svg = readFileSync(new URL(`node_modules/lucide-static/icons/${name}.svg`, import.meta.url), 'utf8')
  const body = svg.replace(/^[\s\S]*?<svg[\s\S]*?>/, '').replace(/<\/svg>\s*$/, '').replace(/\s+/g, ' ').trim()
  return `<symbol id="${name}" viewBox="0 0 24 24"><g fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">${body}</g></symbol>`
})
const sprite = `<svg xmlns="http://www.w3.org/2000/svg">${symbols.join('')}</svg>`
const hash = createHash('sha256').update(sprite).digest('hex').slice(0, 8).toUpperCase()
manifest['icons.svg'] = `icons-${hash}.svg`
writeFileSync(new URL(manifest['icons.svg'], dist), sprite)

const sizes = []
for (const name of readdirSync(dist)) {
  if (!/\.(js|css|svg|txt)$/.test(name)) continue
  const data = readFileSync(new URL(name, dist))
  const gz = gzipSync(data, { level: 9 })
  writeFileSync(new URL(name + '.gz', dist), gz)
  writeFileSync(new URL(name + '.br', dist), brotliCompressSync(data, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }))
  sizes.push([name, gz.length])
}
writeFileSync(new URL('manifest.json', dist), JSON.stringify(manifest, null, 1) + '\n')

// Budgets: a page must stay quick on a bad line.
const budget = { 'app.js': 20_000, 'style.css': 14_000 }
let over = false
for (const [name, size] of sizes) {
  const limit = budget[logical(name)]
  if (limit) console.log(`${logical(name)} ${(size / 1000).toFixed(1)} kB gzip, limit ${limit / 1000} kB`)
  if (limit && size > limit) over = true
}
if (over) {
  console.error('an asset is over its budget')
  process.exit(1)
}
