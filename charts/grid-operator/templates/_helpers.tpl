{{- define "grid-operator.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "grid-operator.tag" -}}
{{- .Values.image.tag | default .Chart.AppVersion -}}
{{- end -}}

{{- define "grid-operator.selector" -}}
app.kubernetes.io/name: grid-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "grid-operator.labels" -}}
{{ include "grid-operator.selector" . }}
app.kubernetes.io/version: {{ include "grid-operator.tag" . | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The rights of the operator on what it watches and makes, in the cluster or in one namespace. */}}
{{- define "grid-operator.rules" -}}
- apiGroups: [grid.build]
  resources: [buildgrids, casstorages, workerpools]
  verbs: [get, list, watch]
- apiGroups: [grid.build]
  resources: [buildgrids, casstorages]
  verbs: [patch]
- apiGroups: [grid.build]
  resources: [buildgrids/status, casstorages/status, workerpools/status]
  verbs: [update]
- apiGroups: [grid.build]
  resources: [buildgrids/finalizers, casstorages/finalizers, workerpools/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [configmaps, secrets, services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, patch]
# Kinds of other projects, where the cluster has them.
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, prometheusrules]
  verbs: [get, list, create, patch, delete]
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, list, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [grpcroutes]
  verbs: [get, list, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, patch, delete]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
