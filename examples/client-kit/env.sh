# shellcheck shell=sh
# Source this file in bash, zsh or sh: . ./env.sh
# It sets what .env has; edit that file only. In plain sh, source it in its own folder.
# shellcheck disable=SC3028
kit=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE:-$0}")" && pwd)
[ -f "$kit/env.sh" ] && [ -f "$kit/kit.json" ] || kit=$PWD
if [ -f "$kit/.env" ]; then
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%"$(printf '\r')"}
    name=${line%%=*}
    value=${line#*=}
    case $line in
      '' | '#'*) continue ;;
    esac
    case $name in
      MLFLOW_TRACKING_SERVER_CERT_PATH | REQUESTS_CA_BUNDLE | AWS_CA_BUNDLE | HADOOP_CONF_DIR | KRB5_CONFIG)
        case $value in
          '' | /*) ;;
          *) value=$kit/$value ;;
        esac
        ;;
    esac
    # The value is not evaluated: it may contain any character.
    export "$name=$value"
  done < "$kit/.env"
else
  echo "env.sh: there is no .env in $kit: source this file in the kit's folder" >&2
fi
unset kit line name value
