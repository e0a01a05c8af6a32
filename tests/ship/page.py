"""Looks at the status page with headless Chromium, over its debugging pipe.

page.py URL DIRECTORY: checks the page at the size of a phone and of a desktop, in light and dark, and
leaves a screenshot of each in the directory. Called by page.sh, which has set the scene.
"""

import base64
import json
import os
import select
import subprocess
import sys
import tempfile
import time

DEADLINE = 60
SIZES = {"phone": (360, 800), "desktop": (1280, 900)}

# What has to be readable on the page, as a person sees it.
FACTS = [
    "2 of 4 volumes current",
    "web is holding",
    "not-mounted-yet is waiting",
    "1 target failing",
    "1 consumer behind",
    "1 certificate expiring soon",
    "missing_key",
    "<b>tls<script><img src>&lt;.crt",
    "The last good snapshot is served.",
    "Nothing is served yet.",
    "2026-12",
    "inotify",
    "after it was written",
    "after acceptance",
    "tls.crt",
    "89 days",
    "2 days",
    "web-frontend",
    "1 of 2 use this revision, behind for",
    "generation 1",
    "copy-to-legacy-app",
    "reload-proxy",
    "attempts:",
    "3 keys",
    "password",
]

# Elements that stick out, and text whose contrast is below what WCAG AA asks for.
LOOK = """(() => {
  const width = document.documentElement.clientWidth;
  const wide = [...document.body.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > width + 0.5 || e.scrollWidth > e.clientWidth + 1
      && getComputedStyle(e).display !== 'inline' && e.clientWidth > 0)
    .map(e => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 40));
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [...document.body.querySelectorAll('*')]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
    .map(e => {
      const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName, e.textContent.slice(0, 30)];
    })
    .filter(([ratio]) => ratio < 4.5).map(String);
  const headings = [...document.querySelectorAll('h1,h2,h3')].map(e => e.tagName);
  return {
    width: document.documentElement.scrollWidth, screen: window.innerWidth, wide, faint, headings,
    text: document.body.innerText, title: document.title, lang: document.documentElement.lang,
    active: document.querySelectorAll('script,img,iframe,object,form,input').length,
    back: light(rgb(getComputedStyle(document.body).backgroundColor)),
    bare: [...document.querySelectorAll('table')].filter(t => !t.querySelector('th[scope=col]')).length,
  };
})()"""


def fail(why):
    sys.exit(f"page.py: {why}")


class Browser:
    """A Chromium of our own, which ends with us."""

    def __init__(self, profile):
        to_read, self.to_browser = os.pipe()
        self.from_browser, to_write = os.pipe()

        def connect():
            # Kept apart first, because one of them may be in the place of the other.
            reader, writer = os.dup(to_read), os.dup(to_write)
            os.dup2(reader, 3)
            os.dup2(writer, 4)

        self.process = subprocess.Popen(
            [
                "chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
                "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
                "--disable-background-networking", "--remote-debugging-pipe",
                f"--user-data-dir={profile}", "about:blank",
            ],
            preexec_fn=connect, pass_fds=(3, 4),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self.buffer, self.events, self.number = b"", [], 0
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        self.session = attached["sessionId"]

    session = None

    def receive(self, end):
        while b"\0" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.from_browser], [], [], left)[0]:
                fail("the browser does not answer")
            piece = os.read(self.from_browser, 1 << 20)
            if not piece:
                fail("the browser has ended")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, params=None):
        self.number += 1
        request = {"id": self.number, "method": method, "params": params or {}}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(request).encode() + b"\0")
        end = time.monotonic() + DEADLINE
        while True:
            message = self.receive(end)
            if message.get("id") == self.number:
                if "error" in message:
                    fail(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def wait_for(self, event):
        end = time.monotonic() + DEADLINE
        while not any(message.get("method") == event for message in self.events):
            self.events.append(self.receive(end))

    def load(self, url):
        self.events.clear()
        self.call("Page.navigate", {"url": url})
        self.wait_for("Page.loadEventFired")

    def look(self):
        answer = self.call("Runtime.evaluate", {"expression": LOOK, "returnByValue": True})
        if "exceptionDetails" in answer:
            fail(answer["exceptionDetails"])
        return answer["result"]["value"]

    def complaints(self):
        """What the console says, such as of a policy that forbids the page's own style."""
        entries = [m["params"]["entry"] for m in self.events if m.get("method") == "Log.entryAdded"]
        return [entry["text"] for entry in entries]

    def shoot(self, path):
        shot = self.call("Page.captureScreenshot", {"captureBeyondViewport": True})
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def check(name, scheme, seen, complaints):
    where = f"{name}, {scheme}"
    if seen["width"] > seen["screen"] or seen["wide"]:
        fail(f"{where}: wider than the screen: {seen['width']} > {seen['screen']}: {seen['wide']}")
    if seen["faint"]:
        fail(f"{where}: too little contrast: {seen['faint']}")
    missing = [fact for fact in FACTS if fact not in seen["text"]]
    if missing:
        fail(f"{where}: not on the page: {missing}\n{seen['text']}")
    if "canary" in seen["text"]:
        fail(f"{where}: a value is on the page")
    if seen["active"] or seen["title"] != "2/4 current · secretwatch":
        fail(f"{where}: text became markup: {seen['active']}, {seen['title']}")
    if seen["lang"] != "en" or seen["headings"] != ["H1"] + ["H2"] * 5 or seen["bare"]:
        fail(f"{where}: {seen['lang']}, {seen['headings']}, {seen['bare']} tables without headers")
    if (seen["back"] < 0.2) != (scheme == "dark"):
        fail(f"{where}: the background has a luminance of {seen['back']:.2f}")
    if complaints:
        fail(f"{where}: the browser complains: {complaints}")


def main(url, directory):
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(profile)
        try:
            for method in ["Page.enable", "Log.enable", "Runtime.enable"]:
                browser.call(method)
            for name, (width, height) in SIZES.items():
                metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
                metrics["mobile"] = name == "phone"
                browser.call("Emulation.setDeviceMetricsOverride", metrics)
                for scheme in ["light", "dark"]:
                    feature = {"name": "prefers-color-scheme", "value": scheme}
                    browser.call("Emulation.setEmulatedMedia", {"features": [feature]})
                    browser.load(url)
                    seen = browser.look()
                    check(name, scheme, seen, browser.complaints())
                    path = os.path.join(directory, f"page-{name}-{scheme}.png")
                    browser.shoot(path)
                    print(f"   {name} {width}x{height}, {scheme}: {len(FACTS)} facts, {path}")
        finally:
            browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
