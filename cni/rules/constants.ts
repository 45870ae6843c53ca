// Numbers that the rules, the routes and the ztunnel must agree on. Istio's, so that either side can be replaced.

/** SO_MARK of every socket the ztunnel opens in a pod (PACKET_MARK, 1337). */
export const ZTUNNEL_MARK = '0x539';
/** Conntrack mark of its connections to the application. */
export const CONN_MARK = '0x111';
/** The bits of a mark that are the mesh's. */
export const MARK_MASK = '0xfff';

/** Routing table in which everything is local. */
export const ROUTE_TABLE = 100;
export const RULE_PRIORITY = 32764;

/** Source addresses that the host gives to kubelet probes. */
export const IPV4_PROBE = '169.254.7.127';
export const IPV6_PROBE = 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff';
