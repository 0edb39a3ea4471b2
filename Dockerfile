# Exporter, receiver and the demo's scraper and provider. The steps are `make install`, which the tests prove.
FROM python:3.11.13-slim-bookworm

RUN apt-get update \
 && apt-get install -y --no-install-recommends make \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 1000 -g 1000 /data

WORKDIR /app
COPY Makefile pyproject.toml requirements.txt README.md ./
COPY common common
COPY exporter exporter
COPY alertmanager alertmanager
COPY command command
COPY sdk sdk
COPY rules rules
COPY docs/runbook.md docs/runbook.md
COPY demo demo
RUN make install

ENV PATH=/app/.venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 1000:1000
CMD ["python", "-m", "exporter", "--help"]
