"""What the backends on Cloudflare share: the client of the gateway Worker, and the REST client.

Both are imported by their modules (`gateway`, `rest`) where they are needed: httpx costs 0.1 s to
import, and the SDK half a second.
"""
