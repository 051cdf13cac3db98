{{/* What selects the agent's pod. */}}
{{- define "skerry.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "skerry.labels" -}}
{{ include "skerry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The host name of all devices in k3s's tunnel: skerry-<cluster>, or with the replica's name behind it. */}}
{{- define "skerry.tunnelName" -}}
skerry-{{ .Values.config.cluster }}{{ with dig "replica" "name" "" .Values.config }}-{{ . }}{{ end }}
{{- end }}

{{/* A port of the configuration: (list . ":8443" "http" "listen"). */}}
{{- define "skerry.port" -}}
{{- $at := dig (index . 2) (index . 3) (index . 1) (index . 0).Values.config -}}
{{ regexFind "[0-9]+$" $at | required (printf "config.%s.%s: %s; wanted host:port or :port" (index . 2) (index . 3) $at) }}
{{- end }}

{{/* cluster.yaml. */}}
{{- define "skerry.config" -}}
{{- $config := deepCopy .Values.config }}
{{- if eq $config.mode "kube" }}{{ $config = mergeOverwrite $config (dict "kube" (dict "namespace" .Release.Namespace)) }}{{ end }}
{{- toYaml $config }}
{{- end }}
