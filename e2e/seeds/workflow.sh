curl -H "Authorization: Bearer $LOKI_TOKEN" \
  -X POST \
  -d '{"prd": "./prd.md"}' \
  http://loki-server:57374/api/control/start
