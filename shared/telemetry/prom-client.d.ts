// Single modules of prom-client: its entry also loads the default metrics, the push gateway and the cluster's aggregation, which no process
// of ours uses, and with them node:http, node:https and node:cluster: 4 MB in every thread.
declare module 'prom-client/lib/histogram.js' {
  import { Histogram } from 'prom-client';
  export default Histogram;
}

declare module 'prom-client/lib/registry.js' {
  import { Registry } from 'prom-client';
  export default Registry;
}
