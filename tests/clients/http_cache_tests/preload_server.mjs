// Loaded before the package's test server (`node --import`), which knows a port but no address and would
// listen on all of them: it serves its folder to whoever asks, so it listens on loopback alone.
import net from 'node:net'

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port) {
  return listen.call(this, Number(port), '127.0.0.1')
}
