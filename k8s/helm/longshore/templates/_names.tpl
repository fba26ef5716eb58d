{{- define "longshore.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "longshore.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "longshore.labels" -}}
{{ include "longshore.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "longshore.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Root, and nothing root can do: as the owner it may read Docker's files (0640 and 0600) with every capability dropped.
     Another user could not, even with DAC_READ_SEARCH added, since Kubernetes sets no ambient capabilities. */}}
{{- define "longshore.securityContext" -}}
runAsUser: 0
runAsGroup: 0
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
  {{- with .Values.addCapabilities }}
  add: {{ toJson . }}
  {{- end }}
seccompProfile:
  type: RuntimeDefault
{{- with .Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The configuration's file. Not toToml: a number from YAML would come out as 10.0. JSON's strings, whole numbers and
     lists are TOML's, too. Tables come last, as TOML wants it. */}}
{{- define "longshore.config" -}}
{{- $config := merge (dict "listen" (printf "0.0.0.0:%v" .Values.port)) .Values.config -}}
{{- include "longshore.table" (dict "path" "" "table" $config) -}}
{{- end }}

{{- define "longshore.table" -}}
{{- $path := .path -}}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (and (kindIs "slice" $value) $value (kindIs "map" (first $value)))) }}
{{ include "longshore.key" $key }} = {{ if kindIs "float64" $value }}{{ $value | int64 }}{{ else }}{{ $value | toRawJson }}{{ end }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- $name := printf "%s%s" $path (include "longshore.key" $key) }}
{{- if kindIs "map" $value }}

[{{ $name }}]
{{- include "longshore.table" (dict "path" (printf "%s." $name) "table" $value) }}
{{- else if and (kindIs "slice" $value) $value (kindIs "map" (first $value)) }}
{{- range $value }}

[[{{ $name }}]]
{{- include "longshore.table" (dict "path" (printf "%s." $name) "table" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "longshore.key" -}}
{{ regexMatch "^[A-Za-z0-9_-]+$" . | ternary . (toRawJson .) }}
{{- end }}
