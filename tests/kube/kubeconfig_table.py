"""The table of kubeconfigs that kubectl and raycp are played with."""

import base64

from doormen import FAR, GUEST, TOKEN
from kubeconfig_rows import BETA, CLUSTER_INFO, PRINTS_CERT, V1, VERSION, Row, dump, expires, far, oidc, plugin, runs, server

GIVES = plugin(f'{{"token": "{TOKEN}"}}')
FAILS = {"plugin": "#!/bin/sh\nexit 1\n"}
CERT = {"client-certificate-data": "<64:cert>", "client-key-data": "<64:key>"}
BASIC = {"username": "a", "password": "b"}
PKI = {"pki/c.pem": "<pem:cert>", "k.pem": "<pem:key>"}
HTTP = "http://127.0.0.1:<port:http-proxy>"
CLOSED = "127.0.0.1:<port:closed-proxy>"
HTTPS = "https://127.0.0.1:<port:https-proxy>"
SOCKS = "127.0.0.1:<port:socks>"
CLOSED_SOCKS = "127.0.0.1:<port:closed-socks>"

TOKENS = [
    Row("a token", True),
    Row("a wrong token", False, {"token": "wrong"}),
    Row("a token that YAML takes for a number", False, {"token": 12345}),
    Row("a token that YAML takes for a boolean", False, files={"config": dump({"token": "#"}).replace("'#'", "yes")}),
    Row("a token with a line break", False, {"token": f"{TOKEN}\nX: y"}),
    Row("a token file", True, {"tokenFile": "token"}, files={"token": f"{TOKEN}\n"}),
    Row("a token file before a token", True, {"token": "wrong", "tokenFile": "token"}, files={"token": TOKEN}),
    Row("a token where the token file is missing", True, {"token": TOKEN, "tokenFile": "none"}),
    Row("a token where the token file is empty", True, {"token": TOKEN, "tokenFile": "token"}, files={"token": "\n"}),
    Row("a token file that is missing", False, {"tokenFile": "none"}),
    Row("a token file that is empty", False, {"tokenFile": "token"}, files={"token": ""}),
    Row(
        "a token file relative to its kubeconfig",
        True,
        files={"sub/config": dump({"tokenFile": "../secrets/token"}), "secrets/token": TOKEN},
        kubeconfig="sub/config",
    ),
    Row("basic authentication, which servers no longer know", False, BASIC),
    Row("a token and basic authentication", False, {"token": TOKEN, **BASIC}),
    Row("a token file and basic authentication", False, {"tokenFile": "token", **BASIC}, files={"token": TOKEN}),
    Row("a password without a name", False, {"username": "", "password": "b"}),
    Row("no credential at all", False, {}),
    Row("a user that is null", False, files={"config": dump("#").replace("'#'", "null")}),
    Row("a token in a key in capitals", False, {"Token": TOKEN}),
    Row(
        "nulls beside a token", True, {"token": TOKEN, "tokenFile": None, "client-key-data": None, "exec": None, "as-groups": None}
    ),
    Row("empty texts beside a token", True, {"token": TOKEN, "tokenFile": "", "client-certificate": "", "username": "", "as": ""}),
    Row(
        "impersonation",
        True,
        {"token": TOKEN, "as": "jane", "as-uid": "7", "as-groups": ["a", "b"], "as-user-extra": {"example.org/Scope%": ["x", "z"]}},
    ),
    Row("impersonation of groups without a user", False, {"token": TOKEN, "as-groups": ["a"]}),
    Row("impersonation of names that are not ASCII", True, {"token": TOKEN, "as": "jürgen", "as-groups": ["prüfer", " a "]}),
    Row("impersonation of a name with a line break", False, {"token": TOKEN, "as": "j\nX: y"}),
]
CERTIFICATES = [
    Row("a client certificate", True, CERT),
    Row("client certificate files, relative", True, {"client-certificate": "pki/c.pem", "client-key": "./k.pem"}, files=PKI),
    Row("a client certificate and a token", True, {**CERT, "token": TOKEN}),
    Row(
        "a client certificate of another CA",
        False,
        {f"client-{a}-data": f"<64:stranger-{b}>" for a, b in (("certificate", "cert"), ("key", "key"))},
    ),
    Row("a client certificate with another's key", False, {**CERT, "client-key-data": "<64:stranger-key>"}),
    Row("a client certificate without a key", False, {"client-certificate-data": "<64:cert>"}),
    Row("a client certificate as data and as file", False, {**CERT, "client-certificate": "pki/c.pem"}, files=PKI),
    Row(
        "a client certificate that is missing, beside a token",
        False,
        {"token": TOKEN, "client-certificate": "x", "client-key": "x"},
    ),
    Row(
        "a client certificate file that is empty, beside a token",
        False,
        {"client-certificate": "pki/c.pem", "client-key": "k.pem", "token": TOKEN},
        files={"pki/c.pem": "", "k.pem": ""},
    ),
    Row("a key file that is empty", False, {"client-certificate": "pki/c.pem", "client-key": "k.pem"}, files={**PKI, "k.pem": ""}),
    Row("a key that is encrypted", False, {"client-certificate-data": "<64:locked-cert>", "client-key-data": "<64:locked-key>"}),
    Row("base64 that is none, of another user", False, files={"config": dump() + "- {name: v, user: {client-key-data: '?'}}\n"}),
]
SERVERS = [
    Row("a CA file", True, cluster=server(ca=None, certificate_authority="ca.pem"), files={"ca.pem": "an ö\n<pem:ca>"}),
    Row("a CA file that is missing", False, cluster=server(ca=None, certificate_authority="ca.pem")),
    Row("a CA as data and as file", False, cluster=server(certificate_authority="ca.pem"), files={"ca.pem": "<pem:ca>"}),
    Row("a CA that is no PEM", False, cluster=server(ca=base64.b64encode(b"nonsense").decode())),
    Row("another CA", False, cluster=server(ca="<64:other-ca>")),
    Row(
        "several CAs, and one that is none",
        True,
        cluster=server(ca=None, certificate_authority="ca.pem"),
        files={"ca.pem": "<pem:other-ca>\n-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n<pem:ca>"},
    ),
    Row("an intermediate CA alone", True, cluster=server("<url:chained>", "<64:middle-ca>")),
    Row("the server's own certificate as CA", True, cluster=server("<url:alone>", "<64:alone-ca>")),
    Row(
        "no CA, and one in the system's store",
        True,
        cluster=server(ca=None),
        files={"s.pem": "<pem:ca>"},
        env={"SSL_CERT_FILE": "s.pem"},
    ),
    Row("no CA anywhere", False, cluster=server(ca=None)),
    Row("a server certificate that has expired", False, cluster=server("<url:expired>")),
    Row("a server certificate with a common name only", False, cluster=server("https://localhost:<port:nameless>")),
    Row("a server certificate for another name", False, cluster=server("<url:far>")),
    Row("tls-server-name", True, cluster=server("<url:far>", tls_server_name=FAR)),
    Row("tls-server-name of another", False, cluster=server(tls_server_name=FAR)),
    Row("insecure-skip-tls-verify", True, cluster=server("<url:expired>", None, insecure_skip_tls_verify=True)),
    Row("insecure-skip-tls-verify with a CA", False, cluster=server(insecure_skip_tls_verify=True)),
    Row("insecure-skip-tls-verify as text", False, cluster=server(ca=None, insecure_skip_tls_verify="true")),
    Row("HTTPS:// in capitals", True, cluster=server("HTTPS://LOCALHOST:<port:main>")),
    Row("a path behind the server", True, cluster=server("<url:main>/k8s/clusters/c-1/"), command=VERSION),
    Row("a path that is neither clean nor ASCII", True, cluster=server("<url:main>//ü b/../c%2Fd é/"), command=VERSION),
    Row("tls-server-name with the dot of the root", True, cluster=server("<url:far>", tls_server_name=f"{FAR}.")),
    Row("http: no credential is sent", True, cluster=server("<url:plain>")),
    Row("http: impersonation is", True, {"token": TOKEN, "as": "jane"}, server("<url:plain>")),
    Row("http without a user", True, cluster=server("<url:plain>"), user={}),
    Row("a server without a scheme: http", True, cluster=server("127.0.0.1:<port:plain>")),
    Row("a server without a scheme, with TLS", False, cluster=server("127.0.0.1:<port:main>")),
    Row("a server with white space", False, cluster=server("<url:main> ")),
    Row("a cluster without a server", False, files={"config": dump(cluster={"server": None})}),
    Row("a server that is null", False, files={"config": dump(cluster=server("#")).replace("'#'", "null")}),
]
FILES = [
    Row("two files", True, files={"a": dump(users=None, clusters=None), "b": dump(contexts=None)}, kubeconfig="a:b"),
    Row("of two files the first wins", True, files={"a": dump(), "b": dump({"token": GUEST})}, kubeconfig="a:b"),
    Row("entries are not merged within", False, files={"a": dump({"as": "jane"}), "b": dump()}, kubeconfig="a:b"),
    Row("a current context in the second only", True, files={"a": dump(**{"current-context": ""}), "b": dump()}, kubeconfig="a:b"),
    Row("a list with files that are missing and empty", True, files={"empty": ""}, kubeconfig=":none::empty:config:"),
    Row("a list with a file that is no YAML", False, files={"bad": "a: ["}, kubeconfig="config:bad"),
    Row("a file that is missing", False, kubeconfig="none"),
    Row("a context that is missing", False, files={"config": dump(**{"current-context": "two"})}),
    Row("no current context", False, files={"config": dump(**{"current-context": None})}),
    Row("a user that is missing", False, files={"config": dump(users=None)}),
    Row("a cluster that is missing", False, files={"config": dump(clusters=[])}),
    Row("a context without a user", False, files={"config": dump(contexts=[{"name": "one", "context": {"cluster": "c"}}])}),
    Row("a context that is null", False, files={"config": dump(contexts=[{"name": "one", "context": None}])}),
    Row("two users of one name", False, files={"config": dump() + f"- {{name: u, user: {{token: {TOKEN}}}}}\n"}),
    Row(
        "null entries",
        True,
        files={
            "config": dump(preferences={"colors": None}, contexts=[None, {"name": "one", "context": {"cluster": "c", "user": "u"}}])
        },
    ),
    Row("a mapping in place of a list", False, files={"config": dump(users={"u": {"token": TOKEN}})}),
    Row("a second document is ignored", True, files={"config": dump() + "---\nfoo: ["}),
    Row("of two equal keys the last one counts", True, files={"config": "users: []\n" + dump()}),
    Row("extensions of a user that are a mapping", False, {"token": TOKEN, "extensions": {}}),
    Row(
        "extensions of a context that are a mapping",
        False,
        files={"config": dump(contexts=[{"name": "one", "context": {"cluster": "c", "user": "u", "extensions": {"a": 1}}}])},
    ),
    Row("another kind", False, files={"config": dump(kind="Secret")}),
    Row("another apiVersion", False, files={"config": dump(apiVersion="v2")}),
    Row("no kind, no apiVersion, unknown keys", True, files={"config": dump(cluster={"y": []}, kind=None, apiVersion=None, z={})}),
    Row(
        "anchors, merge keys, and a date as name",
        True,
        files={
            "config": f"x: &base {{token: {TOKEN}}}\nusers: [{{name: u, user: {{<<: *base}}}}]\ncurrent-context: 2020-01-01\n"
            'clusters: [{name: c, cluster: {server: "<url:main>", certificate-authority-data: <64:ca>}}]\n'
            "contexts: [{name: 2020-01-01, context: {cluster: c, user: u}}]\n"
        },
    ),
    Row(
        "JSON",
        True,
        files={
            "config": '{"clusters": [{"name": "c", "cluster": {"server": "<url:main>", "certificate-authority-data": "<64:ca>"}}],'
            '"contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}], "current-context": "one",\n'
            f'"users": [{{"name": "u", "user": {{"token": "{TOKEN}"}}}}]}}'
        },
    ),
]
PLUGINS = [
    Row("a plugin's token", True, runs(), files=GIVES),
    Row(
        "a plugin relative to its kubeconfig",
        True,
        files={"sub/config": dump(runs("bin/plugin")), "sub/bin/plugin": GIVES["plugin"]},
        kubeconfig="sub/config",
    ),
    Row(
        "a plugin on PATH",
        True,
        runs("my-plugin", env=[{"name": "PATH", "value": "/bin:/usr/bin"}]),
        files={"bin/my-plugin": GIVES["plugin"]},
        env={"PATH": "<folder>/bin:/bin:/usr/bin"},
    ),
    Row(
        "a plugin that is on PATH of its own env only",
        False,
        runs("my-plugin", env=[{"name": "PATH", "value": "<folder>/bin:/bin:/usr/bin"}]),
        files={"bin/my-plugin": GIVES["plugin"]},
    ),
    Row("a plugin's client certificate, in YAML", True, runs(), files=PRINTS_CERT),
    Row(
        "a plugin with args and env",
        True,
        runs(args=["the", "good"], env=[{"name": "LAST", "value": "token"}]),
        files=plugin('{"token": "$1-$2-$LAST"}'),
    ),
    Row(
        "a plugin with provideClusterInfo",
        True,
        runs(provideClusterInfo=True),
        server(
            tls_server_name="localhost",
            extensions=[{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "the-good"}}],
        ),
        plugin('{"token": "$A-token"}', before=CLUSTER_INFO),
    ),
    Row(
        "a plugin without provideClusterInfo",
        True,
        runs(),
        files=plugin(f'{{"token": "{TOKEN}"}}', before='case "$KUBERNETES_EXEC_INFO" in *cluster*) exit 1;; esac'),
    ),
    Row("a token before a plugin", True, {"token": TOKEN, **runs()}, files=FAILS),
    Row("a client certificate before a plugin", True, {**CERT, **runs()}, files=FAILS),
    Row("a token before a plugin that wants a terminal", True, {"token": TOKEN, **runs(interactiveMode="Always")}, files=FAILS),
    Row("a plugin that fails", False, runs(), files=FAILS),
    Row("a plugin that is missing", False, runs("no-such-plugin", installHint="install it")),
    Row("a plugin without a command", False, runs("")),
    Row("a plugin that prints a half", False, runs(), files=plugin('{"clientKeyData": "x"}')),
    Row("a plugin that prints no kind", True, runs(), files={"plugin": GIVES["plugin"].replace('"kind": "ExecCredential", ', "")}),
    Row("a plugin that prints an expiry", True, runs(), files=expires("2040-01-01T00:00:00.123456789+02:00")),
    Row("a plugin that prints an expiry without a zone", False, runs(), files=expires("2040-01-01T00:00:00")),
    Row("a plugin that prints a date as expiry", False, runs(), files=expires("2040-01-01")),
    Row("a plugin that prints an empty expiry", False, runs(), files=expires("")),
    Row("a plugin that PATH finds in the working directory", False, runs("plugin"), files=GIVES, env={"PATH": ".:/bin:/usr/bin"}),
    Row("a plugin that prints no status", False, runs(), files=plugin("null")),
    Row("a plugin that answers in another version", False, runs(), files=plugin(f'{{"token": "{TOKEN}"}}', BETA)),
    Row(
        "v1beta1 without interactiveMode",
        True,
        {"exec": {"apiVersion": BETA, "command": "./plugin"}},
        files=plugin(f'{{"token": "{TOKEN}"}}', BETA),
    ),
    Row("v1 without interactiveMode", False, {"exec": {"apiVersion": V1, "command": "./plugin"}}, files=GIVES),
    Row("a plugin of v1alpha1", False, runs(apiVersion="client.authentication.k8s.io/v1alpha1"), files=GIVES),
    Row("a plugin that wants a terminal", False, runs(interactiveMode="Always"), files=GIVES),
    Row("a number in a plugin's env", False, runs(env=[{"name": "A", "value": 1}]), files=GIVES),
    Row("a plugin and http: it is not run", True, runs(), server("<url:plain>"), FAILS),
    Row("oidc with a valid token", True, oidc(id_token="<pem:good-jwt>")),
    Row("oidc, refreshed", True, oidc(id_token="<pem:old-jwt>", refresh_token="renew-me", client_secret="s")),
    Row("oidc without a way to refresh", False, oidc(id_token="<pem:old-jwt>")),
    Row("oidc, refresh refused", False, oidc(id_token="<pem:old-jwt>", refresh_token="never")),
    Row("oidc with an issuer of another CA", False, oidc(refresh_token="renew-me", idp_certificate_authority_data="<64:other-ca>")),
    Row("oidc with an issuer of no CA", False, oidc(refresh_token="renew-me", idp_certificate_authority_data="")),
    Row("auth-provider gcp, which is gone", False, {"auth-provider": {"name": "gcp", "config": {"access-token": TOKEN}}}),
]
PROXIES = [
    Row("proxy-url", True, cluster=far(HTTP)),
    Row("proxy-url in capitals, with a password", True, cluster=far(f"HTTP://me:p%40ss@{CLOSED}")),
    Row("proxy-url with a wrong password", False, cluster=far(f"http://me:no@{CLOSED}")),
    Row("proxy-url without a scheme", False, cluster=far("127.0.0.1:<port:http-proxy>")),
    Row("proxy-url to an https proxy", True, cluster=far(HTTPS)),
    Row("proxy-url to an https proxy of another CA", False, cluster=far(HTTPS, ca="<64:other-ca>")),
    Row("proxy-url with socks5", True, cluster=far(f"socks5://{SOCKS}")),
    Row("proxy-url with socks5 and a password", True, cluster=far(f"socks5://me:pw@{CLOSED_SOCKS}")),
    Row("proxy-url with socks5 and a wrong password", False, cluster=far(f"socks5://me:no@{CLOSED_SOCKS}")),
    Row("proxy-url with socks5h", False, cluster=far(f"socks5h://{SOCKS}")),
    Row("proxy-url with socks4", False, cluster=far(f"socks4://{SOCKS}")),
    Row("proxy-url for a server on this machine", True, cluster=server(proxy_url=HTTP)),
    Row(
        "proxy-url for a server without TLS",
        True,
        cluster=server("<url:plain>/base", proxy_url=f"http://me:p%40ss@{CLOSED}"),
        command=VERSION,
    ),
    Row(
        "proxy-url with socks5 for a server without TLS",
        True,
        cluster=server("<url:plain>/base", proxy_url=f"socks5://{SOCKS}"),
        command=VERSION,
    ),
    Row("HTTPS_PROXY", True, cluster=far(), env={"HTTPS_PROXY": HTTP}),
    Row("https_proxy without a scheme", True, cluster=far(), env={"https_proxy": "127.0.0.1:<port:http-proxy>"}),
    Row("HTTPS_PROXY with socks5", True, cluster=far(), env={"HTTPS_PROXY": f"socks5://{SOCKS}"}),
    Row("HTTPS_PROXY with socks5h", True, cluster=far(), env={"HTTPS_PROXY": f"socks5h://{SOCKS}"}),
    Row("HTTP_PROXY is not for https", False, cluster=far(), env={"HTTP_PROXY": HTTP}),
    Row("HTTPS_PROXY is not for this machine", True, env={"HTTPS_PROXY": HTTP}),
    Row("NO_PROXY with the domain", False, cluster=far(), env={"HTTPS_PROXY": HTTP, "NO_PROXY": "a.b, far.test"}),
    Row("NO_PROXY with another port", True, cluster=far(), env={"HTTPS_PROXY": HTTP, "NO_PROXY": f"{FAR}:443,.{FAR}"}),
    Row(
        "no_proxy with another network",
        True,
        cluster=server("https://10.1.2.3:6443", tls_server_name="localhost"),
        env={"HTTPS_PROXY": HTTP, "no_proxy": "10.2.0.0/16,10.1.2.3:443"},
    ),
    Row(
        "NO_PROXY with the end of an address, and a network with a mask in dots",
        True,
        cluster=server("https://10.1.2.3:6443", tls_server_name="localhost"),
        env={"HTTPS_PROXY": HTTP, "NO_PROXY": "2.3,.2.3,10.1.2.3/255.0.0.0"},
    ),
    Row(
        "HTTPS_PROXY is not for this machine's IPv4 address as one of IPv6",
        True,
        cluster=server("https://[::ffff:127.0.0.1]:<port:main>", tls_server_name="localhost"),
        env={"HTTPS_PROXY": HTTP},
    ),
    Row("a server whose name is not ASCII", False, cluster=server("https://zürich.test:6443"), env={"HTTPS_PROXY": HTTP}),
    Row("proxy-url before NO_PROXY", True, cluster=far(HTTP), env={"NO_PROXY": "*"}),
]
ROWS = [*TOKENS, *CERTIFICATES, *SERVERS, *FILES, *PLUGINS, *PROXIES]
