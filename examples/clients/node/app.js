// An app that goes on when its credential rotates: node app.js [VOLUME [CONSUMER]]
'use strict';

const { SecretClient } = require('./secretwatch-client.js');

const [volume = 'db', consumer = 'node'] = process.argv.slice(2);

/** Stands for opening a connection pool: throw where the new credential does not work. */
function connect(snapshot) {
  const size = snapshot.bytes('password').length;
  console.log(`using version ${snapshot.version}, a password of ${size} bytes`);
}

const secret = new SecretClient(volume, { consumer, onChange: connect });
secret.start(); // an app does its work now, and takes secret.current() once per request

for (const name of ['SIGTERM', 'SIGINT']) {
  process.on(name, async () => {
    await secret.stop();
    console.log('stopped');
  });
}
