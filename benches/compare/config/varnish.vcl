vcl 4.1;

backend files {
    .host = "127.0.0.1";
    .port = "@origin@";
}

backend stream {
    .host = "127.0.0.1";
    .port = "@stream@";
}

sub vcl_recv {
    if (req.url ~ "^/stream/") {
        set req.backend_hint = stream;
        # Passed on without being kept.
        return (pass);
    }
}

sub vcl_backend_response {
    set beresp.grace = 0s;
}
