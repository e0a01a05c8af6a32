// Keeps one secret current over the socket of secretwatch; needs no packages.
//
//   const secret = new SecretClient('db', { consumer: 'app', onChange: reconnect });
//   secret.start();
//   …
//   const now = secret.current(); // one snapshot per unit of work
'use strict';

const fs = require('node:fs/promises');
const http = require('node:http');
const { setTimeout: sleep } = require('node:timers/promises');

const DEFAULT_SOCKET = '/run/secretwatch/secretwatch.sock';
// How long secretwatch may hold a request until it says that nothing has changed.
const POLL_SECONDS = 30;
// A sidecar that says nothing for so long after that is gone, even where the connection is not.
const GRACE_SECONDS = 10;
// Between attempts while the sidecar is away: doubled each time, and spread by a random half.
const FIRST_DELAY = 100;
const LONGEST_DELAY = 5000;

/** All values of a volume, of one revision. It does not change. */
class Snapshot {
  #data; // private, so that no log prints it by accident

  constructor(document) {
    this.revision = document.revision;
    this.version = document.version ?? '-';
    this.#data = new Map(
      Object.entries(document.data).map(([key, value]) => [key, Buffer.from(value, 'base64')]),
    );
  }

  bytes(key) {
    const value = this.#data.get(key);
    if (value === undefined) throw new NoSuchKey(`no key ${key}`);
    return value;
  }

  text(key) {
    return this.bytes(key).toString('utf8');
  }

  hasValuesOf(other) {
    if (other === null || this.#data.size !== other.#data.size) return false;
    return [...this.#data].every(([key, value]) => other.#data.get(key)?.equals(value));
  }
}

class NoSuchKey extends Error {}

/** An answer that is neither new values nor "nothing has changed". */
class Refused extends Error {
  constructor(status, code, retryAfter) {
    super(`${status} ${code}`);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * Follows a volume. `onChange(snapshot)` may be async and is called before `current()` gives the
 * snapshot: to open what the new credential is for. Where it throws, the last good snapshot stays,
 * and it is called again. Once it is done, secretwatch is told that `consumer` has adopted it.
 */
class SecretClient {
  #volume;
  #consumer;
  #onChange;
  #socket;
  #tokenFile;
  #current = null;
  #stop = new AbortController();
  #done = null;

  constructor(volume, { consumer, onChange = () => {}, socket, tokenFile } = {}) {
    this.#volume = volume;
    this.#consumer = consumer;
    this.#onChange = onChange;
    this.#socket = socket ?? process.env.SECRETWATCH_SOCKET ?? DEFAULT_SOCKET;
    this.#tokenFile = tokenFile ?? process.env.SECRETWATCH_TOKEN_FILE;
  }

  /** Begins to follow; values are there a little later. */
  start() {
    this.#done = this.#follow();
  }

  /** The snapshot in use, or null before the first one. */
  current() {
    return this.#current;
  }

  /** Ends it, in the middle of a long poll as well. */
  async stop() {
    this.#stop.abort();
    await this.#done;
  }

  async #follow() {
    let seen = null;
    let delay = FIRST_DELAY;
    while (!this.#stop.signal.aborted) {
      try {
        seen = await this.#next(seen);
        await this.#use(seen);
        delay = FIRST_DELAY;
      } catch (error) { // whatever it is, the last good value stays
        if (this.#stop.signal.aborted) return;
        delay = Math.max(delay, (error.retryAfter ?? 0) * 1000);
        const pause = delay * (0.5 + Math.random() / 2);
        this.#log(error, pause);
        await sleep(pause, null, { signal: this.#stop.signal }).catch(() => {});
        delay = Math.min(delay * 2, LONGEST_DELAY);
      }
    }
  }

  /** The snapshot after the one that was seen last, or that one if nothing has changed. */
  async #next(seen) {
    let path = `/v1/secrets/${encodeURIComponent(this.#volume)}`;
    if (seen !== null) {
      // What is seen and not in use has failed: then only look whether there is a newer one.
      const timeout = seen === this.#current ? POLL_SECONDS : 0;
      path += `?after=${encodeURIComponent(seen.revision)}&timeout=${timeout}s`;
    }
    const body = await this.#ask('GET', path);
    return body === null ? seen : new Snapshot(JSON.parse(body));
  }

  async #use(snapshot) {
    // After a restart of secretwatch the same values have another revision.
    if (!snapshot.hasValuesOf(this.#current)) await this.#onChange(snapshot);
    this.#current = snapshot;
    if (this.#consumer !== undefined) await this.#adopt(snapshot.revision);
  }

  async #adopt(revision) {
    const names = [this.#volume, this.#consumer].map(encodeURIComponent);
    try {
      await this.#ask('PUT', `/v1/adoptions/${names.join('/')}`, JSON.stringify({ revision }));
    } catch (error) {
      // 409: it has rotated on or was restarted, and the next request gets what is current.
      if (error.status !== 409) throw error;
    }
  }

  /** The body of the answer; null for 304. */
  async #ask(method, path, body = '') {
    const headers = { 'content-length': Buffer.byteLength(body) };
    if (this.#tokenFile) {
      // Each time: the token may rotate as well.
      const token = await fs.readFile(this.#tokenFile, 'utf8');
      headers.authorization = `Bearer ${token.trim()}`;
    }
    const { status, retryAfter, content } = await exchange(
      {
        method,
        path,
        headers,
        socketPath: this.#socket,
        agent: false,
        timeout: (POLL_SECONDS + GRACE_SECONDS) * 1000,
        signal: this.#stop.signal,
      },
      body,
    );
    if (status === 304) return null;
    if (status >= 300) throw new Refused(status, errorCode(content), retryAfter);
    return content;
  }

  #log(error, pause) {
    const version = this.#current?.version ?? 'none';
    const what = `${describe(error)}; still using version ${version}`;
    const seconds = (pause / 1000).toFixed(1);
    console.error(`secretwatch: ${this.#volume}: ${what}, again in ${seconds} s`);
  }
}

function exchange(options, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(options, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject); // the connection ends before the body does
      response.on('end', () => {
        const retryAfter = Number(response.headers['retry-after'] ?? 0);
        const content = Buffer.concat(chunks).toString('utf8');
        resolve({ status: response.statusCode, retryAfter, content });
      });
    });
    request.on('timeout', () => request.destroy(new Error('timed out')));
    request.on('error', reject);
    request.end(body);
  });
}

function errorCode(content) {
  try {
    return JSON.parse(content).error.code;
  } catch {
    return 'without a code';
  }
}

function describe(error) {
  if (error instanceof Refused || error instanceof NoSuchKey) return error.message;
  // The text of other errors may quote what they are about, which may be a value.
  return error.code ?? error.name;
}

module.exports = { SecretClient };
