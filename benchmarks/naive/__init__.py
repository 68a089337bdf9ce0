"""The rivals: what a competent engineer writes in an afternoon with Flask, the SDK, an ORM session and Celery."""
