{{/* Names and labels. */}}
{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* At most 52 letters: `-controller` still fits behind it. */}}
{{- define "tidegate.fullname" -}}
{{- $name := include "tidegate.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The templates below take a dict of `root`, the chart's context, and `component`: controller, monitor, or none for both. */}}
{{- define "tidegate.componentName" -}}
{{ include "tidegate.fullname" .root }}-{{ .component }}
{{- end }}

{{/* Consumers have the same name label, so the component is always part of a selector. */}}
{{- define "tidegate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tidegate.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tidegate.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount }}
{{- if $account.create }}
{{- default (include "tidegate.componentName" .) $account.name }}
{{- else }}
{{- default "default" $account.name }}
{{- end }}
{{- end }}

{{- define "tidegate.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* As a list in JSON. */}}
{{- define "tidegate.watchNamespaces" -}}
{{- default (list .Release.Namespace) .Values.watchNamespaces | toJson }}
{{- end }}

{{/* Variables of users, those of the component behind those of both. */}}
{{- define "tidegate.env" -}}
{{- $ours := dict "POD_IP" "the chart" "TIDEGATE_NAMESPACES" "watchNamespaces" "RUST_LOG" "log.filter" }}
{{- $env := concat .root.Values.pods.env (index .root.Values .component).env }}
{{- range $env }}
{{- if hasKey $ours .name }}
{{- fail (printf "pods.env or %s.env: %s is set by %s" $.component .name (get $ours .name)) }}
{{- end }}
{{- end }}
{{- with $env }}
{{- toYaml . }}
{{- end }}
{{- end }}
