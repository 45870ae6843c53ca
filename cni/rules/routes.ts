// Policy routing inside the pod: packets with the connection mark are local whatever their destination, so that the application's
// replies to a spoofed client address reach the ztunnel (facts: cni §6, "Routing"). Texts are input of `ip -batch`.
import { CONN_MARK, MARK_MASK, ROUTE_TABLE, RULE_PRIORITY } from './constants.ts';

export type Family = 4 | 6;

const RULE = `fwmark ${CONN_MARK}/${MARK_MASK} pref ${RULE_PRIORITY} lookup ${ROUTE_TABLE}`;

/** `rule add` has no `replace`: "File exists" is its way to say that nothing is left to do. Loopback must be up to take a route. */
export function addRoutes(family: Family): string {
  return `link set lo up\nroute replace local ${anywhere(family)} dev lo table ${ROUTE_TABLE}\nrule add ${RULE}\n`;
}

export function removeRoutes(family: Family): string {
  return `rule del ${RULE}\nroute del local ${anywhere(family)} dev lo table ${ROUTE_TABLE}\n`;
}

function anywhere(family: Family): string {
  return family === 4 ? '0.0.0.0/0' : '::/0';
}
