// Loaded before the package's command line (`node --import`). It repairs one fault: node-fetch 2 does not hear
// of a response that is cut short, so the test would wait for ever, node would end with exit code 0, and no
// results would be printed for any test. Should a test stay without a result all the same, it is named.
import http from 'node:http'
import path from 'node:path'
import process from 'node:process'
import { pathToFileURL } from 'node:url'

const client = path.join(path.dirname(process.argv[1]), 'client/test.mjs')
const { testResults, testUUIDs } = await import(pathToFileURL(client))

const pipe = http.IncomingMessage.prototype.pipe
http.IncomingMessage.prototype.pipe = function (destination, ...options) {
  this.once('error', error => destination.destroy(error))
  return pipe.call(this, destination, ...options)
}

process.on('exit', () => {
  const unfinished = Object.keys(testUUIDs).filter(id => !(id in testResults))
  if (unfinished.length > 0) {
    console.error(`without a result: ${unfinished.join(', ')}`)
    process.exitCode = 3
  }
})
