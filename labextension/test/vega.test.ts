import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { describe, expect, it } from 'vitest';

import { draw, load } from '../src/vega';

/** A registry whose renderers note what happens to them, and end when `finish` is called. */
function registry(fails = false) {
  const events: string[] = [];
  const waiting: (() => void)[] = [];
  const createRenderer = (mime: string) => ({
    renderModel: (model: IRenderMime.IMimeModel) =>
      new Promise<void>((resolve, reject) => {
        events.push(`drawing ${mime} ${JSON.stringify(model.data[mime])}`);
        waiting.push(() => {
          if (fails) {
            reject(new Error('no drawing'));
          } else {
            resolve();
          }
        });
      }),
    dispose: () => events.push('disposed')
  });
  const finish = async () => {
    waiting.shift()?.();
    await new Promise(resolve => setTimeout(resolve, 20));
  };
  return { events, finish, rendermime: { createRenderer } as unknown as Parameters<typeof draw>[0] };
}

const LITE = 'application/vnd.vegalite.v5+json';
const always = () => true;

describe('draw', () => {
  it('draws one chart after the other, and none that is no longer wanted', async () => {
    const { events, finish, rendermime } = registry();
    let wanted = true;
    const drawn = [1, 2, 3].map(i => draw(rendermime, { i }, i === 2 ? () => wanted : always));
    await finish();
    expect(events).toEqual([`drawing ${LITE} {"i":1}`]);
    wanted = false;
    await finish();
    expect(events).toEqual([`drawing ${LITE} {"i":1}`, `drawing ${LITE} {"i":3}`]);
    await finish();
    expect((await Promise.all(drawn)).map(renderer => renderer === null)).toEqual([false, true, false]);
    expect(events).not.toContain('disposed');
  });

  it('goes on after a chart that fails, and after an application without Vega', async () => {
    const failing = registry(true);
    const failed = expect(draw(failing.rendermime, {}, always)).rejects.toThrow('no drawing');
    const none = {
      createRenderer: () => {
        throw new Error('no factory');
      }
    };
    const without = expect(draw(none, {}, always)).rejects.toThrow('no factory');
    const good = registry();
    const drawn = draw(good.rendermime, {}, always);
    await failing.finish();
    await failing.finish();
    await failed;
    await without;
    await good.finish();
    expect(await drawn).not.toBeNull();
    expect(failing.events).toEqual([`drawing ${LITE} {}`, 'disposed']);
  });
});

describe('load', () => {
  it('asks for an empty drawing, once', async () => {
    const { events, finish, rendermime } = registry();
    load(rendermime);
    load(rendermime);
    await finish();
    expect(events).toEqual(['drawing application/vnd.vega.v5+json {}', 'disposed']);
  });

  it('leaves it to the charts to say that there is no Vega', async () => {
    const { events, finish, rendermime } = registry(true);
    load(rendermime);
    await finish();
    expect(events).toContain('disposed');
  });
});
