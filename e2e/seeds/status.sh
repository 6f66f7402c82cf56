curl -H "Authorization: Bearer loki_xxx..." \
  http://localhost:57374/api/status
