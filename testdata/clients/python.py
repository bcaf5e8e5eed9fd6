"""Python's own clients: http.client and urllib."""
import gzip, http.client, json, os, ssl, urllib.parse, urllib.request

base, ca = os.environ["EDGE_URL"], os.environ["EDGE_CA"]
trust = ssl.create_default_context(cafile=ca)


def check(name, got, wanted):
    assert wanted in got, f"{name}: {got!r}, without {wanted!r}"
    print("ok", name)


def send(path, data=None, **more):
    request = urllib.request.Request(base + path, data=data, **more)
    with urllib.request.urlopen(request, context=trust) as answer:
        return answer.read().decode()


check("get", send("/form?q=D%27Angelo%20%26%20S%C3%B8n"), "field q: D'Angelo & Søn")
check("form", send("/form", urllib.parse.urlencode({"note": "O'Brien & 50 % 🎉"}).encode()), "field note: O'Brien & 50 % 🎉")
document = json.dumps({"name": "Renée", "note": "it's 50 % & more 🎉"}, ensure_ascii=False).encode()
kind = {"Content-Type": "application/json"}
for method in "POST", "PUT", "PATCH":
    check(method, send("/json", document, headers=kind, method=method), "it's 50 % & more 🎉")
check("gzip", send("/json", gzip.compress(document), headers={**kind, "Content-Encoding": "gzip"}), "Ren")

host = urllib.parse.urlsplit(base).netloc
kept = http.client.HTTPSConnection(host, context=trust)
for n in range(3):  # on one connection
    kept.request("POST", "/json", iter([document[:10], document[10:]]), kind, encode_chunked=True)
    check(f"chunked {n}", kept.getresponse().read().decode(), "Ren")
kept.request("DELETE", "/json")
answer = kept.getresponse()
check("DELETE", str(answer.status) + answer.read().decode(), "204")
