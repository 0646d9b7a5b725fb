"""The operators' page of `trimtab serve` in a browser, for check_pages.py: a server with a store, requests with hostile
text and people with hostile names; looked at at every width, light and dark; steering stopped and resumed by the
keyboard alone."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import TimeoutError as Late

HERE = pathlib.Path(__file__).resolve().parents[2]
TINY = HERE / "tests" / "golden" / "tiny-llama"
WAIT = 30_000  # milliseconds; the machine may be busy
RITA = "Rita <img src=x onerror=pwned=1>"

TAGS = ("<script>pwned=1</script>", "<img src=x onerror=pwned=1>", "<svg onload=pwned=1>", "<b>bold</b>",
        "<iframe src=javascript:pwned=1>", "<a href=javascript:pwned=1>x</a>", "<style>*{display:none}</style>",
        "<meta http-equiv=refresh content=0>", "<base href=//example.com>", "<form action=//example.com><input></form>")
AROUND = ("{}", "\"{}", "'{}", "</td>{}", "</script>{}", "--><!--{}", "]]>{}", "${{{}}}", "&lt;{}", "\u202e{}",
          "{}\u0001", "\\u003c{}", "%3C{}", "\n{}\r\n", "`{}`", "</title>{}", "</textarea>{}", "data:text/html,{}",
          "javascript:{}", "{{{{{}}}}}")
HOSTILE = [around.format(tag) for tag in TAGS for around in AROUND]

# What no text may become; elements that the page itself never makes.
STRANGERS = ("img, iframe, object, embed, a, base, style, audio, video, math, foreignObject, [onerror], [onload], "
             "script:not([src])")


class Site:
    """A server with a store, in the folder."""

    def __init__(self, trimtab, folder):
        self.trimtab, self.folder, self.keys = str(trimtab), folder, {}
        self.add_key("root", "root", "operator,editor,approver")
        for name, roles in (("alice", "editor"), ("bob", "approver"), (RITA, "reviewer,operator"), ("ulf", "user"),
                            ("quinn", "reviewer,approver")):
            self.add_key(name.split()[0].lower(), name, roles)
        model = json.loads(self.run("inspect", TINY, "--json"))
        subprocess.run([sys.executable, HERE / "tests/cli/make_policy.py", folder / "one.st", "3", "64",
                        model["fingerprint"], f"trimtab.weights_digest={model['weights_digest']}", "gate.b=1"],
                       check=True)
        version = self.store("policy", "add", "refuse", folder / "one.st", by="alice")
        self.store("policy", "submit", "refuse", version, by="alice")
        self.store("policy", "approve", "refuse", version, by="bob")
        self.store("policy", "label", "refuse", "production", version, by="alice")
        number = self.store("policy", "stack", "propose", "refuse:1", by="alice")
        self.store("policy", "stack", "approve", number, by="bob")
        self.process = subprocess.Popen([self.trimtab, "serve", TINY, "--port", "0", "--admin-port", "0", "--state",
                                         folder / "store", "--keep-text", "all"], stderr=subprocess.PIPE, text=True)
        self.admin = self.clients = None
        for line in self.process.stderr:
            found = re.search(r"live page: (http://\S+?)/$", line.strip())
            self.admin = found[1] if found else self.admin
            found = re.search(r"serving (http://\S+?)/v1", line)
            if found:
                self.clients = found[1]
                break
        if not (self.admin and self.clients):
            sys.exit("check_pages: the server does not start")

    def run(self, *arguments):
        done = subprocess.run([self.trimtab, *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"check_pages: {arguments[:3]}: {done.stderr}")
        return done.stdout.strip()

    def store(self, *arguments, by="root"):
        key = ("--key", self.folder / f"{by}.key") if (self.folder / f"{by}.key").exists() else ()
        return self.run(*arguments, "--state", self.folder / "store", *key)

    def add_key(self, name, person, roles):
        key = self.store("key", "add", "--person", person, "--roles", roles, "--steering", "any")
        (self.folder / f"{name}.key").write_text(key + "\n", encoding="ascii")
        self.keys[name] = key

    def ask(self, base, path, body=None, by="ulf"):
        data = None if body is None else json.dumps(body).encode()
        key = {"Authorization": f"Bearer {self.keys[by]}"} if by else {}
        request = urllib.request.Request(base + path, data, {**key, "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=WAIT / 1000) as answer:
            return json.load(answer)

    def fill(self):
        """Requests, one after the other, and changes, all with hostile text."""
        for i in range(0, len(HOSTILE), 4):
            prompt = " ".join(HOSTILE[i:i + 4])
            self.ask(self.clients, "/v1/completions", {"prompt": prompt, "max_tokens": 4, "seed": i})
        for text in HOSTILE[::20]:
            for command, by in (("kill", "alice"), ("resume", "bob")):
                self.ask(self.admin, f"/v1/admin/policy/{command}", {"name": "refuse", "reason": text}, by=by)

    def is_killed(self):
        return self.ask(self.clients, "/v1/steering")["killed"]

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=WAIT / 1000)


def watch(page, site):
    """Notes what a page must not do."""
    found = []
    page.add_init_script("window.violations = []; addEventListener('securitypolicyviolation', event => "
                         "violations.push(`${event.violatedDirective} ${event.blockedURI}`));")
    page.on("request", lambda request: request.url.startswith((site.admin + "/", "data:")) or found.append(
        f"asks for {request.url}"))
    page.on("pageerror", lambda error: found.append(f"error: {error}"))
    page.on("dialog", lambda dialog: found.append("a dialog of a script"))
    return found


def enter(page, site, key):
    page.goto(site.admin + "/")
    page.wait_for_selector("#login:not([hidden])", timeout=WAIT)
    page.keyboard.press("Tab")
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#ended button", timeout=WAIT)


def state(page, what):
    page.wait_for_function("what => document.getElementById('state').textContent === what", arg=what, timeout=WAIT)


def axe(page, where):
    lines = []
    for one in Axe().run(page).response["violations"]:
        places = ", ".join(" ".join(map(str, node["target"])) for node in one["nodes"][:3])
        lines.append(f"{where}: axe {one['id']} ({one['impact']}): {places}")
    return lines


def problems_of(page, width):
    wide = page.evaluate("document.documentElement.scrollWidth")
    lines = [f"is {wide} pixels wide"] if wide > width else []
    lines += [f"CSP: {one}" for one in page.evaluate("window.violations")]
    if page.evaluate("window.pwned !== undefined"):
        lines.append("a hostile text ran")
    return lines + [f"markup of text: {one}" for one in page.evaluate(
        "s => [...document.body.querySelectorAll(s)].map(node => node.outerHTML.slice(0, 80))", STRANGERS)]


def look_at(browser, site, width, scheme, shots):
    """Logged in, all details open, a map made, and the question of the switch."""
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        found = watch(page, site)
        page.goto(site.admin + "/")
        page.wait_for_selector("#login:not([hidden])", timeout=WAIT)
        lines = axe(page, "login")
        enter(page, site, site.keys["rita"])
        page.click("#ended button")
        page.wait_for_selector("#map table.map, #map .trouble", timeout=WAIT)
        if page.query_selector("#map .trouble"):
            lines.append(f"no map: {page.inner_text('#map')}")
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        page.wait_for_timeout(1500)  # what is drawn again stays open
        if page.evaluate("[...document.querySelectorAll('details')].some(one => !one.open)"):
            lines.append("details close by themselves")
        lines += axe(page, "page") + problems_of(page, width)
        if RITA not in page.inner_text("#origin"):
            lines.append("who looks is not said")
        if shots:
            page.screenshot(path=shots / f"live-{width}-{scheme}.png", full_page=True)
        page.click("#stop")
        page.wait_for_selector("dialog[open]", timeout=WAIT)
        lines += axe(page, "dialog") + problems_of(page, width)
        if shots:
            page.screenshot(path=shots / f"live-{width}-{scheme}-stop.png")
        return [f"live page, {width} pixels, {scheme}: {one}" for one in lines + found]


def press_until(page, key, selector):
    for _ in range(120):
        page.keyboard.press(key)
        if page.evaluate("s => document.activeElement?.matches(s)", selector):
            return True
    return False


def stop_by_keyboard(browser, site):
    """Stops steering as an editor, who cannot resume it, and resumes it as an approver; each step by keys."""
    lines = []
    with browser.new_context() as context:
        page = context.new_page()
        found = watch(page, site)
        enter(page, site, site.keys["alice"])
        if not press_until(page, "Shift+Tab", "#stop"):
            lines.append("the switch is not reached by the keyboard")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]", timeout=WAIT)
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog:not([open])", state="attached", timeout=WAIT)
        if site.is_killed():
            lines.append("Escape stops steering")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]", timeout=WAIT)
        if not page.evaluate("document.activeElement.id === 'confirm-no'"):
            lines.append("the first choice is not to do it")
        press_until(page, "Shift+Tab", "#reason")
        page.keyboard.type("a try")
        press_until(page, "Tab", "#confirm-yes")
        page.keyboard.press("Enter")
        state(page, "steering stopped")
        lines += [] if site.is_killed() else ["the page says stopped, and the server is not"]
        lines += [] if page.is_disabled("#stop") else ["an editor may resume"]
        lines += axe(page, "stopped")
        enter(page, site, site.keys["bob"])
        state(page, "steering stopped")
        press_until(page, "Shift+Tab", "#stop")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]", timeout=WAIT)
        press_until(page, "Shift+Tab", "#confirm-yes")
        page.keyboard.press("Enter")
        state(page, "steering on")
        lines += ["the page says on, and the server is not"] if site.is_killed() else []
        enter(page, site, site.keys["root"])
        if not page.is_disabled("#ended button"):
            lines.append("an operator is offered text")
        return [f"live page, keyboard: {one}" for one in lines + found]


class Mouse:
    def __init__(self, page):
        self.page = page

    def press(self, selector):
        self.page.click(selector)

    def choose(self, selector, value):
        self.page.select_option(selector, value)


class Keys:
    """Reaches everything by Tab alone."""

    def __init__(self, page):
        self.page = page

    def press(self, selector):
        if not press_until(self.page, "Tab", selector):
            raise AssertionError(f"{selector} is not reached by the keyboard")
        self.page.keyboard.press("Enter")

    def choose(self, selector, value):
        """By the letters that it begins with."""
        if not press_until(self.page, "Tab", selector):
            raise AssertionError(f"{selector} is not reached by the keyboard")
        self.page.keyboard.type(value)


def click_through(page, site, hand):
    """Forty clicks, and after each what must have come of it."""
    def holds(what, *arguments):
        page.wait_for_function(what, arg=list(arguments), timeout=WAIT)

    def toggles(selector):
        for is_open in (True, False):
            hand.press(f"{selector} summary")
            holds("([s, open]) => document.querySelector(s).open === open", f"{selector} details", is_open)

    def maps(n):
        for i in range(n):
            seq = page.evaluate("i => document.querySelectorAll('#ended button')[i].dataset.map", i)
            hand.press(f"#map-{seq}")
            holds("([seq]) => document.getElementById('map-made')?.textContent.startsWith(`Request ${seq},`)", seq)

    def asks(button, choice, scope=None):
        hand.press(button)
        holds("() => document.getElementById('confirm').open")
        if scope:
            hand.choose("#scope", scope)
        hand.press(f"#confirm-{choice}")
        holds("() => !document.getElementById('confirm').open")

    page.goto(site.admin + "/")
    page.wait_for_selector("#login:not([hidden])", timeout=WAIT)
    page.focus("#key")
    page.keyboard.type(site.keys["quinn"])
    hand.press("#login button")
    page.wait_for_selector("#ended button", timeout=WAIT)
    toggles(".policy")
    maps(12)
    toggles("#map")
    asks("#stop", "no")
    asks("#stop", "yes")
    state(page, "steering stopped")
    asks("#stop", "no")
    hand.press("#ended button")  # there is no map while steering is stopped
    page.wait_for_selector("#map .trouble", timeout=WAIT)
    asks("#stop", "yes")
    state(page, "steering on")
    maps(4)
    toggles("#map")
    asks("#stop", "yes", "refuse")
    state(page, "steering on, a policy stopped")
    asks("[data-resume]", "no")
    asks("[data-resume]", "yes")
    state(page, "steering on")
    toggles(".policy")


def click_all(browser, site, scheme, kind):
    lines = []
    with browser.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        found = watch(page, site)
        page.add_init_script("window.clicks = 0; addEventListener('click', event => { if (event.target.matches("
                             "'button, summary')) clicks++; }, true);")
        try:
            click_through(page, site, kind(page))
        except (AssertionError, Late) as error:
            lines.append(str(error))
        n = page.evaluate("window.clicks")
        lines += [f"{n} clicks were counted"] if n != 40 and not lines else []
        lines += axe(page, "after the clicks") + problems_of(page, page.viewport_size["width"])
        return [f"live page, {n} clicks, {scheme}, {kind.__name__}: {one}" for one in lines + found]


def change_hands(browser, site):
    """A key that is not taken any more leaves nothing for the next one; and what has the focus keeps it."""
    lines = []
    with browser.new_context() as context:
        page = context.new_page()
        found = watch(page, site)
        enter(page, site, site.keys["rita"])
        page.click("#ended button")
        page.wait_for_selector("#map table.map", timeout=WAIT)
        page.route("**/v1/admin/live", lambda route: route.fulfill(status=401, json={"error": {"message": "gone"}}))
        page.wait_for_selector("#login:not([hidden])", timeout=WAIT)
        page.unroute("**/v1/admin/live")
        page.fill("#key", site.keys["root"])
        page.keyboard.press("Enter")
        page.wait_for_selector("#ended button", timeout=WAIT)
        if page.inner_text("#map") or not page.is_disabled("#ended button"):
            lines.append("an operator sees the text that a reviewer asked for")
        page.click(".policy summary")
        table = ".policy details[open] .scroll"
        page.focus(table)
        page.wait_for_timeout(2500)  # it is drawn again
        if not page.evaluate("s => document.activeElement.matches(s)", table):
            lines.append("a table loses the focus when it is drawn again")
        page.route("**/v1/admin/live", lambda route: route.abort())
        state(page, "unknown")
        return [f"live page, another key: {one}" for one in lines + found]


def keep_text(browser, site):
    """Each hostile string, put where text goes, stays text."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(site.admin + "/")
        wrong = page.evaluate("""async texts => {
            const {el} = await import("/dashboard/charts.js");
            return texts.filter(text => {
                const node = el("p", {title: text}, text, el("span", {}, text));
                document.body.append(node);
                return node.querySelectorAll("*").length !== 1 || node.textContent !== text + text || window.pwned;
            });
        }""", HOSTILE)
        return [f"live page: {one!r} is not kept as text" for one in wrong]


def refused(site):
    lines = []
    for by, status in (("ulf", 403), (None, 401)):
        try:
            site.ask(site.admin, "/v1/admin/live", by=by)
            lines.append(f"live page: {by} may see it")
        except urllib.error.HTTPError as error:
            lines += [] if error.code == status else [f"live page: {by} is answered {error.code}"]
    return lines


PAINTED = """window.painted = 0; new MutationObserver(() => {
    if (!window.painted && document.querySelector("#ended td:nth-child(2)")) {
        window.painted = -1;
        requestAnimationFrame(() => setTimeout(() => { window.painted = performance.now(); }));
    }
}).observe(document, {childList: true, subtree: true});"""


def paint(browser, trimtab, load, folder, entries, rounds=20):
    """Milliseconds from the navigation until what runs and the newest of so many entries of a log are painted."""
    subprocess.run([load, folder / "long", str(entries // 2)], check=True, capture_output=True)
    with subprocess.Popen([trimtab, "serve", TINY, "--port", "0", "--admin-port", "0", "--state", folder / "long"],
                          stderr=subprocess.PIPE, text=True) as server:
        address = None
        for line in server.stderr:
            found = re.search(r"live page: (http://\S+?)/$", line.strip())
            address = found[1] if found else address
            if "serving" in line:
                break
        times = []
        for _ in range(rounds + 1):  # the first warms
            with browser.new_context() as context:
                page = context.new_page()
                page.add_init_script(PAINTED)
                page.goto(address + "/")
                page.wait_for_function("() => window.painted > 0", timeout=WAIT)
                times.append(page.evaluate("window.painted"))
        server.send_signal(signal.SIGTERM)
    times = sorted(times[1:])
    return {"entries": entries, "median_ms": round(times[len(times) // 2]), "most_ms": round(times[-1])}


def look_live(browser, trimtab, folder, widths, shots):
    """All problems, as lines."""
    site = Site(trimtab, folder)
    try:
        site.fill()
        lines = refused(site) + keep_text(browser, site)
        for width in widths:
            for scheme in ("light", "dark"):
                lines += look_at(browser, site, width, scheme, shots)
        for scheme, kind in ((scheme, kind) for scheme in ("light", "dark") for kind in (Mouse, Keys)):
            lines += click_all(browser, site, scheme, kind)
        return lines + change_hands(browser, site) + stop_by_keyboard(browser, site)
    finally:
        site.close()
