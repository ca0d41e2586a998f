// Reads the results that the package's command line has printed and says of every test what the package's
// own results page would show: node verdicts.mjs PACKAGE_FOLDER < results.json
import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { pathToFileURL } from 'node:url'

const folder = path.resolve(process.argv[2])
const load = file => import(pathToFileURL(path.join(folder, file)))
const has = file => fs.existsSync(path.join(folder, file))

const { default: suites } = await load('tests/index.mjs')
// The edition of the registry keeps this suite out of its index, and adds it to what it runs and shows.
if (has('tests/surrogate-control.mjs')) {
  suites.push((await load('tests/surrogate-control.mjs')).default)
}
const { determineTestResult } = await load(
  has('test-engine') ? 'test-engine/lib/results.mjs' : 'lib/display.mjs')

// The page shows symbols; these are the words of its key.
const WORDS = {
  '-': 'untested',
  '✅': 'pass',
  '⛔️': 'fail',
  '⚠️': 'fail',
  Y: 'yes',
  N: 'no',
  '🔹': 'setup failure',
  '⁉️': 'harness error',
  '⚪️': 'dependency failure',
  '↻': 'retry'
}

const results = JSON.parse(fs.readFileSync(0, 'utf8'))
const verdicts = suites.flatMap(suite => suite.tests.map(test => {
  const symbol = determineTestResult(suites, test.id, results)[2]
  if (!(symbol in WORDS)) throw new Error(`${test.id}: the package shows an unknown symbol ${symbol}`)
  // What the test itself threw, whatever became of the tests that it depends on.
  const thrown = Array.isArray(results[test.id]) ? results[test.id] : [null, null]
  return {
    id: test.id,
    suite: suite.id,
    name: test.name.trim(),
    kind: test.kind ?? 'required',
    verdict: WORDS[symbol],
    error: thrown[0],
    message: thrown[1]
  }
}))
console.log(JSON.stringify(verdicts, null, 1))
