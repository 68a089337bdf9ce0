"""The floor: a Flask view that does nothing at all, to see what the server and Flask cost."""

from flask import Flask, Response

app = Flask(__name__)


@app.post("/webhooks")
def receive() -> Response:
    return Response(status=204)


@app.get("/health/live")
def live() -> str:
    return "ok"
