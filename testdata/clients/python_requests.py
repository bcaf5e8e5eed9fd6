"""The requests package: sessions, JSON, and files under names of all kinds."""
import os, requests

base = os.environ["EDGE_URL"]
session = requests.Session()
session.verify = os.environ["EDGE_CA"]


def check(name, answer, wanted):
    assert answer.status_code < 400 and wanted in answer.text, f"{name}: {answer.status_code} {answer.text!r}, without {wanted!r}"
    print("ok", name)


for file in "Résumé.pdf", "契約書.pdf", "O'Brien & Søn 50 %.pdf", "a  b (1).tar.gz":
    files = {"document": (file, b"%PDF-1.7", "application/pdf")}
    check(file, session.post(base + "/form", files=files, data={"note": "ünïcode"}), f"file document: {file}, 8 bytes")
check("large", session.post(base + "/upload", files={"document": ("ü.bin", os.urandom(3 << 20))}), "file document: ü.bin, 3145728 bytes")
check("put", session.put(base + "/upload", data=os.urandom(2 << 20), headers={"Content-Type": "application/octet-stream"}), "body: 2097152 bytes")
check("stream", session.put(base + "/upload", data=iter([b"x" * 70000] * 3), headers={"Content-Type": "application/octet-stream"}), "body: 210000 bytes")
check("json", session.patch(base + "/json", json={"note": "50 % 🎉"}), "50 %")
check("cookies", session.get(base + "/form", cookies={"a": "x" * 1000, "b": "y" * 1000}, headers={"Authorization": "Bearer eyJ" + "a" * 2000}), "GET /form")
