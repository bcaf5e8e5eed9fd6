"""The aiohttp package: files, JSON, a WebSocket and an event stream."""
import aiohttp, asyncio, os, ssl

base = os.environ["EDGE_URL"]
trust = ssl.create_default_context(cafile=os.environ["EDGE_CA"])


def check(name, got, wanted):
    assert wanted in got, f"{name}: {got!r}, without {wanted!r}"
    print("ok", name)


async def main():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        async def send(path, method="POST", **more):
            async with session.request(method, base + path, **more) as answer:
                return await answer.text()

        form = aiohttp.FormData(quote_fields=False)  # names as browsers write them
        form.add_field("note", "O'Brien & 50 % 🎉")
        form.add_field("document", b"%PDF-1.7", filename="Résumé Jörg.pdf", content_type="application/pdf")
        check("multipart", await send("/form", data=form), "file document: Résumé Jörg.pdf, 8 bytes")
        form = aiohttp.FormData()
        form.add_field("document", b"%PDF-1.7", filename="Résumé.pdf", content_type="application/pdf")
        check("quoted name", await send("/form", data=form), "8 bytes")
        check("json", await send("/json", json={"note": "50 % 🎉"}), "50 %")
        check("compressed", await send("/json", data=b'{"a": "b"}', compress="gzip", headers={"Content-Type": "application/json"}), '"b"')
        check("put", await send("/upload", "PUT", data=os.urandom(1 << 20)), "body: 1048576 bytes")
        async with session.ws_connect(base + "/socket") as socket:
            await socket.send_str("héllo")
            check("websocket", (await socket.receive()).data, "héllo")
        async with session.get(base + "/events") as answer:
            check("events", (await answer.content.readline()).decode(), "event 1")


asyncio.run(main())
