curl -H "Authorization: Bearer $LOKI_TOKEN" \
  http://localhost:57374/api/status -v
