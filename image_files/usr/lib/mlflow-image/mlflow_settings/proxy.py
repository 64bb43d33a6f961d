"""Whether nginx receives the requests, and what it is told: one configuration file.

Sources: nginx's documentation (ngx_http_proxy_module, ngx_http_ssl_module,
ngx_http_realip_module), and Mozilla's "Server Side TLS" 5.7, intermediate configuration.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlflow_settings.blocks import hosts
from mlflow_settings.blocks.block import RenderedFile
from mlflow_settings.blocks.server import HTTP, Server
from mlflow_settings.blocks.tls import HTTPS, Acme
from mlflow_settings.settings import Settings

#: mlflow-configure's folder for nginx, which only root and nginx can read.
FOLDER = "/run/mlflow-proxy"
CONFIGURATION = f"{FOLDER}/nginx.conf"
CERTIFICATE = f"{FOLDER}/certificate.pem"
KEY = f"{FOLDER}/key.pem"
#: For clients: the authority that the machine has made.
CA = f"{FOLDER}/ca.pem"
#: The user that nginx runs as.
USER = "mlflow-proxy"
#: The unit's own folders (mlflow-proxy.service).
_RUN = "/run/mlflow-nginx"
#: Where the server listens for nginx alone; the folder is made by systemd-tmpfiles.
SOCKET = "/run/mlflow-socket/server.sock"
#: certbot's folder (mlflow-certificate.service), and where the answers to an authority lie.
ACME = "/var/lib/mlflow-acme"
CHALLENGES = f"{ACME}/challenges"
#: The pages and scripts of MLflow's user interface (mlflow_launch/prepare.py makes the link).
PAGES = "/opt/mlflow/share/mlflow-image/ui"

# Cipher suites of TLS 1.2; those of 1.3 are OpenSSL's own.
_CIPHERS = ":".join(
    (
        *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
        *("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
    )
)
_TWO_YEARS_S = 2 * 365 * 24 * 3600


def is_used(settings: Settings) -> bool:
    """Whether nginx receives the requests."""
    return settings.tls.way is not None or settings.server.port == HTTP


def by_socket(settings: Settings) -> bool:
    """Whether the server listens on SOCKET; MLflow's own command (for jobs) knows no sockets."""
    return is_used(settings) and not settings.server.job_execution


@dataclass(frozen=True)
class Identity:
    """What nginx shows of itself. ca: of its own authority, for clients; "" when it is public."""

    chain: str
    key: str = field(repr=False)
    ca: str = ""


def environment(settings: Settings) -> Mapping[str, str]:
    """Where the server listens when nginx receives the requests."""
    if not is_used(settings):
        return {}
    found = {"MLFLOW_HOST": "127.0.0.1", "MLFLOW_PORT": str(settings.server.inner_port)}
    return {**found, "MLFLOW_IMAGE_SOCKET": SOCKET} if by_socket(settings) else found


def files(settings: Settings, identity: Identity | None) -> Iterator[RenderedFile]:
    """What nginx reads, if it is used."""
    if not is_used(settings):
        return
    yield RenderedFile(CONFIGURATION, configuration(settings), 0o640, group=USER)
    if identity:
        yield RenderedFile(CERTIFICATE, identity.chain, 0o644, group=USER)
        yield RenderedFile(KEY, identity.key, 0o640, group=USER)
        if identity.ca:
            yield RenderedFile(CA, identity.ca, 0o644, group=USER)


def configuration(settings: Settings) -> str:
    """The text of nginx.conf."""
    server, tls = settings.server, settings.tls
    upstream = f"unix:{SOCKET}" if by_socket(settings) else f"127.0.0.1:{server.inner_port}"
    servers = []
    if tls.way:
        servers.append(_https(settings))
        if tls.port == HTTPS or isinstance(tls.way, Acme):
            servers.append(_redirect(settings))
    else:
        servers.append(_server(_listen(server.host, HTTP), _LOCATIONS))
    if by_socket(settings):
        # For the machine's own programs: mlflow-admin, for example.
        inner = f"    listen 127.0.0.1:{server.inner_port};\n"
        servers.append(_server(inner, _LOCATIONS))
    return _FRAME.format(
        run=_RUN,
        upstream=upstream,
        body_limit=_body_limit(server),
        trusted=_trusted(server),
        servers="\n".join(servers),
    )


def _https(settings: Settings) -> str:
    tls = settings.tls
    more = f"""\
    ssl_certificate {CERTIFICATE};
    ssl_certificate_key {KEY};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers {_CIPHERS};
    ssl_prefer_server_ciphers off;
    ssl_session_cache shared:tls:10m;
    ssl_session_timeout 1d;
    ssl_session_tickets off;
    # Plain HTTP on this port gets the answer of port 80.
    error_page 497 =308 https://$http_host$request_uri;
"""
    return _server(_listen(settings.server.host, tls.port, " ssl http2") + more, _LOCATIONS)


def _redirect(settings: Settings) -> str:
    challenges = ""
    if isinstance(settings.tls.way, Acme):
        challenges = f"""\
    location /.well-known/acme-challenge/ {{
      root {CHALLENGES};
      default_type text/plain;
    }}
"""
    port = "" if settings.tls.port == HTTPS else f":{settings.tls.port}"
    rest = f"    location / {{\n      return 308 https://$host{port}$request_uri;\n    }}\n"
    return _server(_listen(settings.server.host, HTTP), challenges + rest)


def _listen(host: str, port: int, words: str = "") -> str:
    address = ipaddress.ip_address(host)
    # :: means every address (ipv6(7), IPV6_V6ONLY).
    both = " ipv6only=off" if address.version == 6 and address.is_unspecified else ""
    return f"    listen {hosts.in_url(host)}:{port}{words}{both};\n"


def _server(head: str, locations: str) -> str:
    return f"  server {{\n{head}{locations}  }}\n"


def _body_limit(server: Server) -> str:
    # The server itself answers in MLflow's form; nginx only spares it the body.
    return "0" if server.upload_limit == "none" else f"{server.upload_limit.lower()}"


def _trusted(server: Server) -> str:
    """Balancers name the client in a header; the last address that is not theirs is the client."""
    if not server.trusted_proxies:
        return ""
    lines = [f"  set_real_ip_from {one};\n" for one in server.trusted_proxies]
    return "".join(lines) + "  real_ip_header X-Forwarded-For;\n  real_ip_recursive on;\n"


_STARTING = '{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "The server is starting."}'
_LOCATIONS = f"""\
    location / {{
      proxy_pass http://mlflow;
    }}
    location /static-files/ {{
      alias {PAGES}/;
      # Their names contain a hash of their content.
      add_header Cache-Control "public, max-age=31536000, immutable";
      add_header Strict-Transport-Security $hsts always;
      add_header X-Content-Type-Options nosniff always;
    }}
    error_page 502 504 =503 @starting;
    location @starting {{
      default_type application/json;
      add_header Retry-After 5 always;
      return 503 '{_STARTING}';
    }}
"""

_FRAME = """\
# Written by mlflow-configure; the next run replaces it.
worker_processes auto;
pid {run}/nginx.pid;
error_log stderr warn;
# Uploads by many clients at once.
worker_rlimit_nofile 16384;

events {{
  worker_connections 8192;
}}

http {{
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  # MLflow logs each request.
  access_log off;
  server_tokens off;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 75s;

  client_body_temp_path {run}/body;
  proxy_temp_path {run}/proxy;
  fastcgi_temp_path {run}/fastcgi;
  uwsgi_temp_path {run}/uwsgi;
  scgi_temp_path {run}/scgi;

  # Clients that send slowly on purpose: a header within 15 s, and some of the body each minute.
  client_header_timeout 15s;
  client_body_timeout 60s;
  send_timeout 60s;
  reset_timedout_connection on;
  large_client_header_buffers 8 16k;
  client_max_body_size {body_limit};
{trusted}
  gzip on;
  gzip_proxied any;
  gzip_vary on;
  gzip_min_length 1024;
  gzip_types text/css text/plain text/javascript application/javascript application/json
    image/svg+xml;

  # A page of this server asks its own origin, by whatever name or forwarded port it was reached.
  # MLflow knows only the names of the settings, but compares the Host header with those.
  map "$scheme://$http_host|$http_origin" $foreign_origin {{
    default $http_origin;
    "~^(?<own>[^|]+)\\|\\k<own>$" "";
  }}
  # A browser would apply it to every other program on the host where it runs.
  map "$scheme $host" $hsts {{
    default "";
    "~^https (?!localhost$|127\\.|\\[)" "max-age={two_years_s}";
  }}
  add_header Strict-Transport-Security $hsts always;

  upstream mlflow {{
    server {upstream};
    keepalive 32;
  }}
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header Origin $foreign_origin;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host "";
  proxy_set_header Forwarded "";
  # Large artifacts go through in both directions as they come, and never to a disk.
  proxy_request_buffering off;
  # What is read at once; 16k, the default, halves the rate of an upload.
  client_body_buffer_size 256k;
  proxy_buffering off;
  proxy_max_temp_file_size 0;
  proxy_connect_timeout 10s;
  proxy_send_timeout 1h;
  proxy_read_timeout 1h;
  # Only a request that no worker has begun may go to another one.
  proxy_next_upstream off;

{servers}}}
""".replace("{two_years_s}", str(_TWO_YEARS_S))
