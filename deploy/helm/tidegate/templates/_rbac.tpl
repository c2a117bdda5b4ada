{{/* What each right is for stands in docs/kubernetes.md. */}}
{{- define "tidegate.rules.controller" -}}
- apiGroups: [tidegate.dev]
  resources: [consumergroups]
  verbs: [get, list, watch, patch]
- apiGroups: [tidegate.dev]
  resources: [consumergroups/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{- define "tidegate.rules.monitor" -}}
- apiGroups: [tidegate.dev]
  resources: [consumergroups]
  verbs: [list, watch]
{{- end }}

{{/* Without the right to create: the Lease is the chart's, and who is ending must not make it again. */}}
{{- define "tidegate.rules.lease" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [tidegate-{{ .component }}]
  verbs: [get, update]
{{- end }}

{{/* A Role and its binding: `root`, `component`, `namespace`, `name` and `rules`, the name of a template above. */}}
{{- define "tidegate.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "tidegate.labels" . | nindent 4 }}
rules:
  {{- include .rules . | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "tidegate.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "tidegate.serviceAccountName" . }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}
